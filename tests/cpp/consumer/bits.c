/* Calls every function of the C API and prints the bytes of its result: lines of "name bytes".
 *
 * Lives here: the same cases, in the same order, as in bits.cpp and test_consumer.py. Must not: checks of results.
 */
#include <stdio.h>
#include <stdlib.h>

#include <softloss/softloss.h>

enum { ROWS = 3, CLASSES = 37 };

static const int64_t matrix[] = {ROWS, CLASSES}, rows[] = {ROWS}, classes[] = {CLASSES};

/* The dtype of the run, its size and its name. */
static softloss_dtype dtype;
static size_t item;
static const char* suffix;

static void check(softloss_status status) {
    if (status != SOFTLOSS_OK) {
        fprintf(stderr, "status %d: %s\n", status, softloss_last_error());
        exit(1);
    }
}

static softloss_array array(const void* data, int32_t ndim, const int64_t* shape, softloss_dtype of) {
    const softloss_array a = {data, shape, NULL, ndim, of, 0};
    return a;
}
static softloss_mutable_array output(void* data, int32_t ndim, const int64_t* shape, softloss_dtype of) {
    const softloss_mutable_array a = {data, shape, NULL, ndim, of, 0};
    return a;
}

/* Numbers in [low, high) of a linear congruential generator. */
static void fill(void* data, int n, uint64_t seed, int low, int high) {
    for (int i = 0; i < n; ++i) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const double unit = (double)(seed >> 44) / (1 << 20);
        if (dtype == SOFTLOSS_FLOAT32) {
            ((float*)data)[i] = (float)low + (float)(high - low) * (float)unit;
        } else {
            ((double*)data)[i] = low + (high - low) * unit;
        }
    }
}

static void print_bytes(const char* name, const void* data, size_t n) {
    printf("%s.%s ", name, suffix);
    for (size_t i = 0; i < n; ++i) printf("%02x", ((const unsigned char*)data)[i]);
    printf("\n");
}
static void print(const char* name, const void* data, int n) {
    print_bytes(name, data, n * item);
}
static void print_indices(const char* name, const int64_t* data, int n) {
    print_bytes(name, data, n * sizeof *data);
}
/* A loss that was reduced: Python gives it in the dtype of the computation. */
static void print_loss(const char* name, double loss) {
    const float narrow = (float)loss;
    print(name, dtype == SOFTLOSS_FLOAT32 ? (const void*)&narrow : (const void*)&loss, 1);
}

static void cases(void) {
    static double x_data[ROWS * CLASSES], probs_data[ROWS * CLASSES], weight_data[CLASSES];
    static double y_data[ROWS * CLASSES];
    int64_t label_data[ROWS] = {5, -100, 36};
    fill(x_data, ROWS * CLASSES, 1, -20, 20);
    fill(probs_data, ROWS * CLASSES, 2, 0, 1);
    fill(weight_data, CLASSES, 3, 0, 2);
    const softloss_array x = array(x_data, 2, matrix, dtype), probs = array(probs_data, 2, matrix, dtype),
                         weight = array(weight_data, 1, classes, dtype),
                         labels = array(label_data, 1, rows, SOFTLOSS_INT64);
    const softloss_mutable_array y = output(y_data, 2, matrix, dtype), row = output(y_data, 1, rows, dtype),
                                 column = output(y_data, 1, classes, dtype);
    const softloss_array y_in = softloss_as_input(&y);
    double loss;

    const int all = ROWS * CLASSES;

    check(softloss_softmax(&x, &y, NULL));
    print("softmax", y_data, all);
    check(softloss_softmax_backward(&y_in, &x, &y, -1));
    print("softmax_backward", y_data, all);
    check(softloss_log_softmax(&x, &y, NULL));
    print("log_softmax", y_data, all);
    check(softloss_log_softmax_backward(&y_in, &x, &y, -1));
    print("log_softmax_backward", y_data, all);
    check(softloss_logsumexp(&x, &row, NULL));
    print("logsumexp", y_data, ROWS);
    static double row_data[ROWS];
    const softloss_mutable_array other_row = output(row_data, 1, rows, dtype);
    check(softloss_log_normalize(&x, &y, &other_row, -1));
    print("log_normalize", y_data, all);
    print("logsumexp", row_data, ROWS);
    softloss_entropy_options e;
    softloss_entropy_options_init(&e);
    e.temperature = 2;
    check(softloss_softmax_entropy(&x, &row, &e));
    print("softmax_entropy", y_data, ROWS);
    check(softloss_sigmoid(&x, &y));
    print("sigmoid", y_data, all);
    check(softloss_log_sigmoid(&x, &y));
    print("log_sigmoid", y_data, all);

    softloss_class_loss_options c;
    softloss_class_loss_options_init(&c);
    c.compute_dtype = dtype;
    check(softloss_cross_entropy(&x, &labels, &c, &loss, NULL));
    print_loss("cross_entropy", loss);
    c.weight = &weight;
    c.label_smoothing = 0.1;
    c.temperature = 2;
    c.reduction = SOFTLOSS_REDUCTION_SUM;
    check(softloss_cross_entropy(&x, &labels, &c, &loss, NULL));
    print_loss("cross_entropy_options", loss);
    softloss_class_loss_options_init(&c);
    c.compute_dtype = dtype;
    c.reduction = SOFTLOSS_REDUCTION_NONE;
    check(softloss_cross_entropy(&x, &probs, &c, NULL, &row));
    print("cross_entropy_rows", y_data, ROWS);
    c.reduction = SOFTLOSS_REDUCTION_MEAN;
    check(softloss_nll_loss(&x, &labels, &c, &loss, NULL));
    print_loss("nll_loss", loss);
    check(softloss_categorical_cross_entropy(&probs, &labels, &c, &loss, NULL));
    print_loss("categorical_cross_entropy", loss);

    softloss_binary_loss_options b;
    softloss_binary_loss_options_init(&b);
    b.compute_dtype = dtype;
    check(softloss_binary_cross_entropy(&probs, &probs, &b, &loss, NULL));
    print_loss("binary_cross_entropy", loss);
    b.reduction = SOFTLOSS_REDUCTION_SUM;
    check(softloss_binary_cross_entropy_with_logits(&x, &probs, &b, &loss, NULL));
    print_loss("binary_cross_entropy_with_logits", loss);
    b.reduction = SOFTLOSS_REDUCTION_MEAN;

    softloss_divergence_options d;
    softloss_divergence_options_init(&d);
    d.compute_dtype = dtype;
    d.reduction = SOFTLOSS_REDUCTION_NONE;
    check(softloss_kl_divergence(&x, &probs, &d, NULL, &row));
    print("kl_divergence", y_data, ROWS);
    d.reduction = SOFTLOSS_REDUCTION_MEAN;
    d.temperature = 2;
    check(softloss_js_divergence(&x, &probs, &d, &loss, NULL));
    print_loss("js_divergence", loss);
    d.temperature = 1;
    check(softloss_kl_divergence_and_grad(&x, &probs, &y, &d, &loss, NULL));
    print_loss("kl_divergence_and_grad", loss);
    print("grad", y_data, all);

    check(softloss_cross_entropy_and_grad(&x, &labels, &y, &c, &loss, NULL));
    print_loss("cross_entropy_and_grad", loss);
    print("grad", y_data, all);
    check(softloss_nll_loss_and_grad(&x, &labels, &y, &c, &loss, NULL));
    print_loss("nll_loss_and_grad", loss);
    print("grad", y_data, all);
    check(softloss_categorical_cross_entropy_and_grad(&probs, &labels, &y, &c, &loss, NULL));
    print_loss("categorical_cross_entropy_and_grad", loss);
    print("grad", y_data, all);
    check(softloss_binary_cross_entropy_and_grad(&probs, &probs, &y, &b, &loss, NULL));
    print_loss("binary_cross_entropy_and_grad", loss);
    print("grad", y_data, all);
    check(softloss_binary_cross_entropy_with_logits_and_grad(&x, &probs, &y, &b, &loss, NULL));
    print_loss("binary_cross_entropy_with_logits_and_grad", loss);
    print("grad", y_data, all);

    static double hess_data[ROWS * CLASSES];
    const softloss_mutable_array hess = output(hess_data, 2, matrix, dtype);
    const softloss_hessian_options h = {2, 1e-16};
    check(softloss_cross_entropy_grad_hess(&x, &labels, &y, &hess, &c, &h));
    print("cross_entropy_grad_hess", y_data, all);
    print("hess", hess_data, all);
    check(softloss_binary_cross_entropy_with_logits_grad_hess(&x, &probs, &y, &hess, &b, NULL));
    print("binary_cross_entropy_with_logits_grad_hess", y_data, all);
    print("hess", hess_data, all);

    static int32_t hit_data[ROWS * CLASSES];
    for (int i = 0; i < all; ++i)
        hit_data[i] = dtype == SOFTLOSS_FLOAT32 ? ((const float*)probs.data)[i] > 0.5f
                                                : ((const double*)probs.data)[i] > 0.5;
    const softloss_array hits = {hit_data, matrix, NULL, 2, SOFTLOSS_INT32, 0};
    check(softloss_softmax_focal_loss(&x, &labels, &c, &loss, NULL));
    print_loss("softmax_focal_loss", loss);
    c.gamma = 0.5;
    check(softloss_softmax_focal_loss_and_grad(&x, &labels, &y, &c, &loss, NULL));
    print_loss("softmax_focal_loss_and_grad", loss);
    print("grad", y_data, all);
    c.gamma = 2;
    check(softloss_softmax_focal_loss_grad_hess(&x, &labels, &y, &hess, &c, NULL));
    print("softmax_focal_loss_grad_hess", y_data, all);
    print("hess", hess_data, all);
    check(softloss_sigmoid_focal_loss(&x, &hits, &b, &loss, NULL));
    print_loss("sigmoid_focal_loss", loss);
    b.alpha = 0.25;
    b.gamma = 1.5;
    check(softloss_sigmoid_focal_loss_and_grad(&x, &hits, &y, &b, &loss, NULL));
    print_loss("sigmoid_focal_loss_and_grad", loss);
    print("grad", y_data, all);
    check(softloss_sigmoid_focal_loss_grad_hess(&x, &hits, &y, &hess, &b, NULL));
    print("sigmoid_focal_loss_grad_hess", y_data, all);
    print("hess", hess_data, all);
    c.label_smoothing = 0.1;
    check(softloss_cross_entropy_grad_hess(&x, &probs, &y, &hess, &c, NULL));
    print("cross_entropy_grad_hess_soft", y_data, all);
    print("hess", hess_data, all);
    c.label_smoothing = 0;

    enum { K = 4, K2 = 2 };
    static const int64_t top[] = {ROWS, K}, top2[] = {ROWS, K2};
    static double prob_data[ROWS * K], logprob_data[ROWS], entropy_data[ROWS], top_data[ROWS * K2];
    int64_t index_data[ROWS * K], argmax_data[ROWS], rank_data[ROWS], top_index_data[ROWS * K2];
    const softloss_mutable_array prob = output(prob_data, 2, top, dtype),
                                 index = output(index_data, 2, top, SOFTLOSS_INT64);
    softloss_topk_options k;
    softloss_topk_options_init(&k);
    k.k = K;
    check(softloss_softmax_topk(&x, &prob, &index, &k));
    print("softmax_topk", prob_data, ROWS * K);
    print_indices("index", index_data, ROWS * K);
    const softloss_mutable_array logprob = output(logprob_data, 1, rows, dtype),
                                 argmax = output(argmax_data, 1, rows, SOFTLOSS_INT64),
                                 rank = output(rank_data, 1, rows, SOFTLOSS_INT64),
                                 entropy = output(entropy_data, 1, rows, dtype),
                                 top_logprob = output(top_data, 2, top2, dtype),
                                 top_index = output(top_index_data, 2, top2, SOFTLOSS_INT64);
    const softloss_token_scores scores = {&logprob, &argmax, &rank, &entropy, &top_logprob, &top_index};
    softloss_token_options o;
    softloss_token_options_init(&o);
    o.top_k = K2;
    check(softloss_token_logprobs(&x, &labels, &scores, &o));
    print("token_logprobs", logprob_data, ROWS);
    print_indices("argmax", argmax_data, ROWS);
    print_indices("rank", rank_data, ROWS);
    print("entropy", entropy_data, ROWS);
    print("top_logprob", top_data, ROWS * K2);
    print_indices("top_index", top_index_data, ROWS * K2);
    static double u_data[ROWS];
    fill(u_data, ROWS, 9, 0, 1);
    const softloss_array u = array(u_data, 1, rows, dtype);
    const softloss_mutable_array drawn = output(argmax_data, 1, rows, SOFTLOSS_INT64);
    softloss_sample_options draw;
    softloss_sample_options_init(&draw);
    draw.temperature = 4;
    draw.top_p = 0.9;
    check(softloss_sample(&x, &u, &drawn, &logprob, &draw));
    print_indices("sample", argmax_data, ROWS);
    print("logprob", logprob_data, ROWS);

    c.temperature = 2;
    check(softloss_brier_score(&x, &labels, &c, &loss, NULL));
    print_loss("brier_score", loss);
    c.temperature = 1;
    softloss_temperature_options f;
    softloss_temperature_options_init(&f);
    f.weight = &weight;
    softloss_temperature_fit fit;
    check(softloss_fit_temperature(&x, &labels, &f, &fit));
    print_bytes("fit_temperature", &fit.temperature, sizeof fit.temperature);
    print_bytes("loss", &fit.loss, sizeof fit.loss);
    softloss_calibration_options q;
    softloss_calibration_options_init(&q);
    q.bins = 4;
    q.norm = SOFTLOSS_NORM_L2;
    check(softloss_calibration_error(&x, &labels, &q, &loss));
    print_bytes("calibration_error", &loss, sizeof loss);

    softloss_transform_options t;
    softloss_transform_options_init(&t);
    t.axis = 0;
    t.temperature = 0.7;
    check(softloss_softmax(&x, &y, &t));
    print("softmax_axis_temperature", y_data, all);
    softloss_logsumexp_options s;
    softloss_logsumexp_options_init(&s);
    s.axis = 0;
    s.b = &probs;
    check(softloss_logsumexp(&x, &column, &s));
    print("logsumexp_axis_b", y_data, CLASSES);
    b.weight = &weight;
    b.pos_weight = &weight;
    check(softloss_binary_cross_entropy_with_logits(&x, &probs, &b, &loss, NULL));
    print_loss("binary_cross_entropy_with_logits_broadcast", loss);

    label_data[1] = CLASSES;
    if (softloss_cross_entropy(&x, &labels, &c, &loss, NULL) == SOFTLOSS_OUT_OF_RANGE) {
        printf("error.%s %s\n", suffix, softloss_last_error());
    }
}

/* Each instruction set is chosen in turn, the fastest last. */
static void isas(void) {
    for (const char* const* isa = softloss_usable_isas(); *isa; ++isa) {
        check(softloss_set_isa(*isa));
        printf("isa %s\n", softloss_isa());
    }
    if (softloss_set_isa("none") == SOFTLOSS_INVALID_ARGUMENT)
        printf("error.isa %s\n", softloss_last_error());
}

int main(void) {
    isas();
    dtype = SOFTLOSS_FLOAT32, item = sizeof(float), suffix = "float32";
    cases();
    dtype = SOFTLOSS_FLOAT64, item = sizeof(double), suffix = "float64";
    cases();
    return 0;
}
