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

static softloss_array array(void* data, int32_t ndim, const int64_t* shape, softloss_dtype of) {
    const softloss_array a = {data, shape, NULL, ndim, of, 0};
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

static void print(const char* name, const void* data, int n) {
    printf("%s.%s ", name, suffix);
    for (size_t i = 0; i < n * item; ++i) printf("%02x", ((const unsigned char*)data)[i]);
    printf("\n");
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
                         labels = array(label_data, 1, rows, SOFTLOSS_INT64),
                         y = array(y_data, 2, matrix, dtype), row = array(y_data, 1, rows, dtype),
                         column = array(y_data, 1, classes, dtype);
    double loss;

    softloss_transform_options t;
    check(softloss_softmax(&x, &y, NULL));
    print("softmax", y_data, ROWS * CLASSES);
    softloss_transform_options_init(&t);
    t.axis = 0;
    t.temperature = 0.7;
    check(softloss_softmax(&x, &y, &t));
    print("softmax_axis_temperature", y_data, ROWS * CLASSES);
    check(softloss_log_softmax(&x, &y, NULL));
    print("log_softmax", y_data, ROWS * CLASSES);
    check(softloss_logsumexp(&x, &row, NULL));
    print("logsumexp", y_data, ROWS);
    softloss_logsumexp_options s;
    softloss_logsumexp_options_init(&s);
    s.axis = 0;
    s.b = &probs;
    check(softloss_logsumexp(&x, &column, &s));
    print("logsumexp_axis_b", y_data, CLASSES);
    check(softloss_sigmoid(&x, &y));
    print("sigmoid", y_data, ROWS * CLASSES);
    check(softloss_log_sigmoid(&x, &y));
    print("log_sigmoid", y_data, ROWS * CLASSES);

    softloss_class_loss_options c;
    softloss_class_loss_options_init(&c);
    c.dtype = dtype;
    check(softloss_cross_entropy(&x, &labels, &c, &loss, NULL));
    print_loss("cross_entropy", loss);
    c.weight = &weight;
    c.label_smoothing = 0.1;
    c.temperature = 2;
    c.reduction = SOFTLOSS_REDUCTION_SUM;
    check(softloss_cross_entropy(&x, &labels, &c, &loss, NULL));
    print_loss("cross_entropy_options", loss);
    softloss_class_loss_options_init(&c);
    c.dtype = dtype;
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
    b.dtype = dtype;
    check(softloss_binary_cross_entropy(&probs, &probs, &b, &loss, NULL));
    print_loss("binary_cross_entropy", loss);
    b.weight = &weight;
    b.pos_weight = &weight;
    check(softloss_binary_cross_entropy_with_logits(&x, &probs, &b, &loss, NULL));
    print_loss("binary_cross_entropy_with_logits", loss);

    label_data[1] = CLASSES;
    if (softloss_cross_entropy(&x, &labels, &c, &loss, NULL) == SOFTLOSS_OUT_OF_RANGE) {
        printf("error.%s %s\n", suffix, softloss_last_error());
    }
}

int main(void) {
    dtype = SOFTLOSS_FLOAT32, item = sizeof(float), suffix = "float32";
    cases();
    dtype = SOFTLOSS_FLOAT64, item = sizeof(double), suffix = "float64";
    cases();
    return 0;
}
