/* The C API of softloss, for C and every language that calls C: the functions of softloss.hpp on plain structs.
 *
 * Lives here: declarations. Must not: C++, the documentation of the functions, which is in softloss.hpp.
 *
 * Functions that can fail return a status. On failure nothing has been written, and softloss_last_error() returns
 * the message of the C++ exception, with the name that the argument has here. Options may be NULL for the defaults.
 * Otherwise, fill the struct with its _init function and then change what you need: options that are added later then
 * have their defaults. A function ignores options that do not apply to it.
 */
#ifndef SOFTLOSS_H
#define SOFTLOSS_H

#include <stdint.h>

#include "softloss/export.h"

/* Compilers warn if a status is ignored. */
#if defined(__cplusplus) ? __cplusplus >= 201703L : defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L
#define SOFTLOSS_STATUS [[nodiscard]] SOFTLOSS_API softloss_status
#elif defined(__GNUC__)
#define SOFTLOSS_STATUS SOFTLOSS_API __attribute__((warn_unused_result)) softloss_status
#else
#define SOFTLOSS_STATUS SOFTLOSS_API softloss_status
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum softloss_status {
    SOFTLOSS_OK = 0,
    SOFTLOSS_INVALID_ARGUMENT = 1, /* shapes, values, dtypes: std::invalid_argument */
    SOFTLOSS_OUT_OF_RANGE = 2,     /* labels: std::out_of_range */
    SOFTLOSS_OUT_OF_MEMORY = 3
} softloss_status;

typedef enum softloss_dtype {
    SOFTLOSS_AUTO = -1, /* only for compute_dtype: float64 for float64, integers and bool, else float32 */
    SOFTLOSS_FLOAT16,
    SOFTLOSS_BFLOAT16,
    SOFTLOSS_FLOAT32,
    SOFTLOSS_FLOAT64,
    SOFTLOSS_BOOLEAN,
    SOFTLOSS_INT8,
    SOFTLOSS_INT16,
    SOFTLOSS_INT32,
    SOFTLOSS_INT64,
    SOFTLOSS_UINT8,
    SOFTLOSS_UINT16,
    SOFTLOSS_UINT32,
    SOFTLOSS_UINT64
} softloss_dtype;

typedef enum softloss_reduction {
    SOFTLOSS_REDUCTION_NONE,
    SOFTLOSS_REDUCTION_MEAN,
    SOFTLOSS_REDUCTION_SUM
} softloss_reduction;

typedef enum softloss_calibration_norm {
    SOFTLOSS_NORM_L1, /* ECE */
    SOFTLOSS_NORM_L2, /* RMSCE */
    SOFTLOSS_NORM_MAX /* MCE */
} softloss_calibration_norm;

/* A read-only view of an array that the caller owns. */
typedef struct softloss_array {
    const void* data;
    const int64_t* shape;
    const int64_t* strides; /* in bytes, of any sign; NULL: C order */
    int32_t ndim;
    int32_t dtype;   /* a softloss_dtype */
    int32_t swapped; /* not 0: the elements have the other byte order */
} softloss_array;

/* A view of an array that a function writes. */
typedef struct softloss_mutable_array {
    void* data;
    const int64_t* shape;
    const int64_t* strides;
    int32_t ndim;
    int32_t dtype;
    int32_t swapped;
} softloss_mutable_array;

typedef struct softloss_transform_options {
    const softloss_array* where; /* or NULL */
    double temperature;
    int32_t axis;
} softloss_transform_options;

typedef struct softloss_logsumexp_options {
    const softloss_array* b;     /* or NULL */
    const softloss_array* where; /* or NULL */
    int32_t axis;
} softloss_logsumexp_options;

typedef struct softloss_class_loss_options {
    const softloss_array* weight;        /* or NULL */
    const softloss_array* sample_weight; /* or NULL */
    int64_t ignore_index;
    double label_smoothing; /* only cross_entropy */
    double temperature;     /* only cross_entropy and brier_score */
    double empty;
    int32_t axis;
    int32_t ignore;        /* 0: no label is ignored */
    int32_t reduction;     /* a softloss_reduction */
    int32_t compute_dtype; /* SOFTLOSS_FLOAT32, SOFTLOSS_FLOAT64 or SOFTLOSS_AUTO */
    double gamma;          /* only softmax_focal_loss */
} softloss_class_loss_options;

typedef struct softloss_binary_loss_options {
    const softloss_array* weight;     /* or NULL */
    const softloss_array* pos_weight; /* or NULL; only for logits */
    double empty;
    int32_t reduction; /* a softloss_reduction */
    int32_t compute_dtype;
    double alpha; /* weight of target 1; NaN: none; only sigmoid_focal_loss */
    double gamma; /* only sigmoid_focal_loss */
} softloss_binary_loss_options;

typedef struct softloss_divergence_options {
    const softloss_array* sample_weight; /* or NULL */
    double temperature;
    double empty;
    int32_t axis;
    int32_t reduction;     /* a softloss_reduction */
    int32_t compute_dtype; /* SOFTLOSS_FLOAT32, SOFTLOSS_FLOAT64 or SOFTLOSS_AUTO */
} softloss_divergence_options;

typedef struct softloss_hessian_options {
    double hess_scale;
    double hess_min;
} softloss_hessian_options;

typedef struct softloss_topk_options {
    int64_t k;
    double temperature;
    int32_t axis;
} softloss_topk_options;

typedef struct softloss_entropy_options {
    double temperature;
    int32_t axis;
} softloss_entropy_options;

typedef struct softloss_sample_options {
    const softloss_array* where; /* or NULL */
    int64_t top_k;               /* 0: all */
    double temperature;          /* >= 0; with 0 the class is the first of the largest */
    double top_p;
    double min_p;
    int32_t axis;
} softloss_sample_options;

typedef struct softloss_token_options {
    int64_t top_k;
    int64_t ignore_index;
    double temperature;
    int32_t axis;
    int32_t ignore; /* 0: no label is ignored */
} softloss_token_options;

typedef struct softloss_temperature_options {
    const softloss_array* weight;        /* or NULL */
    const softloss_array* sample_weight; /* or NULL */
    int64_t ignore_index;
    int32_t axis;
    int32_t ignore; /* 0: no label is ignored */
} softloss_temperature_options;

/* The result of softloss_fit_temperature. */
typedef struct softloss_temperature_fit {
    double temperature;
    double loss;
    int32_t
        at_bound; /* not 0: there is no minimum within 0.001 .. 1000; temperature is the end that is lower */
} softloss_temperature_fit;

typedef struct softloss_calibration_options {
    const softloss_array* sample_weight; /* or NULL */
    int64_t bins;
    int64_t ignore_index;
    double temperature;
    int32_t axis;
    int32_t ignore; /* 0: no label is ignored */
    int32_t norm;   /* a softloss_calibration_norm */
} softloss_calibration_options;

/* Outputs of softloss_token_logprobs; any may be NULL. */
typedef struct softloss_token_scores {
    const softloss_mutable_array* logprob;
    const softloss_mutable_array* argmax;
    const softloss_mutable_array* rank;
    const softloss_mutable_array* entropy;
    const softloss_mutable_array* top_logprob;
    const softloss_mutable_array* top_index;
} softloss_token_scores;

SOFTLOSS_API void softloss_transform_options_init(softloss_transform_options* options);
SOFTLOSS_API void softloss_logsumexp_options_init(softloss_logsumexp_options* options);
SOFTLOSS_API void softloss_class_loss_options_init(softloss_class_loss_options* options);
SOFTLOSS_API void softloss_binary_loss_options_init(softloss_binary_loss_options* options);
SOFTLOSS_API void softloss_divergence_options_init(softloss_divergence_options* options);
SOFTLOSS_API void softloss_hessian_options_init(softloss_hessian_options* options);
SOFTLOSS_API void softloss_topk_options_init(softloss_topk_options* options);
SOFTLOSS_API void softloss_entropy_options_init(softloss_entropy_options* options);
SOFTLOSS_API void softloss_sample_options_init(softloss_sample_options* options);
SOFTLOSS_API void softloss_token_options_init(softloss_token_options* options);
SOFTLOSS_API void softloss_temperature_options_init(softloss_temperature_options* options);
SOFTLOSS_API void softloss_calibration_options_init(softloss_calibration_options* options);

/* The message of the last call of this thread that failed; "" if none did. Valid until the next failure. */
SOFTLOSS_API const char* softloss_last_error(void);

/* The same array as an input: passes the output of one call to the next. */
SOFTLOSS_API softloss_array softloss_as_input(const softloss_mutable_array* array);

/* ---- transforms ---- */

SOFTLOSS_STATUS softloss_softmax(const softloss_array* x, const softloss_mutable_array* out,
                                 const softloss_transform_options* options);
SOFTLOSS_STATUS softloss_log_softmax(const softloss_array* x, const softloss_mutable_array* out,
                                     const softloss_transform_options* options);
SOFTLOSS_STATUS softloss_logsumexp(const softloss_array* x, const softloss_mutable_array* out,
                                   const softloss_logsumexp_options* options);
SOFTLOSS_STATUS softloss_log_normalize(const softloss_array* x, const softloss_mutable_array* out,
                                       const softloss_mutable_array* logsumexp, int32_t axis);
SOFTLOSS_STATUS softloss_sigmoid(const softloss_array* x, const softloss_mutable_array* out);
SOFTLOSS_STATUS softloss_log_sigmoid(const softloss_array* x, const softloss_mutable_array* out);
SOFTLOSS_STATUS softloss_softmax_backward(const softloss_array* y, const softloss_array* dy,
                                          const softloss_mutable_array* out, int32_t axis);
SOFTLOSS_STATUS softloss_log_softmax_backward(const softloss_array* logy, const softloss_array* dy,
                                              const softloss_mutable_array* out, int32_t axis);

/* ---- losses ----
 *
 * A reduced loss is written to *loss. With SOFTLOSS_REDUCTION_NONE the losses are written to `losses` instead. The
 * other one may be NULL and is not written. */

SOFTLOSS_STATUS softloss_cross_entropy(const softloss_array* logits, const softloss_array* target,
                                       const softloss_class_loss_options* options, double* loss,
                                       const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_nll_loss(const softloss_array* log_probs, const softloss_array* target,
                                  const softloss_class_loss_options* options, double* loss,
                                  const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_categorical_cross_entropy(const softloss_array* probs, const softloss_array* target,
                                                   const softloss_class_loss_options* options, double* loss,
                                                   const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_binary_cross_entropy(const softloss_array* probs, const softloss_array* target,
                                              const softloss_binary_loss_options* options, double* loss,
                                              const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_binary_cross_entropy_with_logits(const softloss_array* logits,
                                                          const softloss_array* target,
                                                          const softloss_binary_loss_options* options,
                                                          double* loss, const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_kl_divergence(const softloss_array* logits, const softloss_array* target_logits,
                                       const softloss_divergence_options* options, double* loss,
                                       const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_js_divergence(const softloss_array* logits, const softloss_array* target_logits,
                                       const softloss_divergence_options* options, double* loss,
                                       const softloss_mutable_array* losses);

SOFTLOSS_STATUS softloss_softmax_focal_loss(const softloss_array* logits, const softloss_array* target,
                                            const softloss_class_loss_options* options, double* loss,
                                            const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_sigmoid_focal_loss(const softloss_array* logits, const softloss_array* target,
                                            const softloss_binary_loss_options* options, double* loss,
                                            const softloss_mutable_array* losses);

SOFTLOSS_STATUS softloss_brier_score(const softloss_array* logits, const softloss_array* target,
                                     const softloss_class_loss_options* options, double* loss,
                                     const softloss_mutable_array* losses);

/* ---- losses with their gradients: `loss` may be NULL if only the gradient is needed ---- */

SOFTLOSS_STATUS softloss_cross_entropy_and_grad(const softloss_array* logits, const softloss_array* target,
                                                const softloss_mutable_array* grad_out,
                                                const softloss_class_loss_options* options, double* loss,
                                                const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_nll_loss_and_grad(const softloss_array* log_probs, const softloss_array* target,
                                           const softloss_mutable_array* grad_out,
                                           const softloss_class_loss_options* options, double* loss,
                                           const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_categorical_cross_entropy_and_grad(
    const softloss_array* probs, const softloss_array* target, const softloss_mutable_array* grad_out,
    const softloss_class_loss_options* options, double* loss, const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_binary_cross_entropy_and_grad(const softloss_array* probs,
                                                       const softloss_array* target,
                                                       const softloss_mutable_array* grad_out,
                                                       const softloss_binary_loss_options* options,
                                                       double* loss, const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_binary_cross_entropy_with_logits_and_grad(
    const softloss_array* logits, const softloss_array* target, const softloss_mutable_array* grad_out,
    const softloss_binary_loss_options* options, double* loss, const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_kl_divergence_and_grad(const softloss_array* logits,
                                                const softloss_array* target_logits,
                                                const softloss_mutable_array* grad_out,
                                                const softloss_divergence_options* options, double* loss,
                                                const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_softmax_focal_loss_and_grad(const softloss_array* logits,
                                                     const softloss_array* target,
                                                     const softloss_mutable_array* grad_out,
                                                     const softloss_class_loss_options* options, double* loss,
                                                     const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_sigmoid_focal_loss_and_grad(const softloss_array* logits,
                                                     const softloss_array* target,
                                                     const softloss_mutable_array* grad_out,
                                                     const softloss_binary_loss_options* options,
                                                     double* loss, const softloss_mutable_array* losses);
SOFTLOSS_STATUS softloss_cross_entropy_grad_hess(const softloss_array* logits, const softloss_array* target,
                                                 const softloss_mutable_array* grad_out,
                                                 const softloss_mutable_array* hess_out,
                                                 const softloss_class_loss_options* options,
                                                 const softloss_hessian_options* hessian);
SOFTLOSS_STATUS softloss_binary_cross_entropy_with_logits_grad_hess(
    const softloss_array* logits, const softloss_array* target, const softloss_mutable_array* grad_out,
    const softloss_mutable_array* hess_out, const softloss_binary_loss_options* options,
    const softloss_hessian_options* hessian);
SOFTLOSS_STATUS softloss_softmax_focal_loss_grad_hess(const softloss_array* logits,
                                                      const softloss_array* target,
                                                      const softloss_mutable_array* grad_out,
                                                      const softloss_mutable_array* hess_out,
                                                      const softloss_class_loss_options* options,
                                                      const softloss_hessian_options* hessian);
SOFTLOSS_STATUS softloss_sigmoid_focal_loss_grad_hess(const softloss_array* logits,
                                                      const softloss_array* target,
                                                      const softloss_mutable_array* grad_out,
                                                      const softloss_mutable_array* hess_out,
                                                      const softloss_binary_loss_options* options,
                                                      const softloss_hessian_options* hessian);

/* ---- scores ---- */

SOFTLOSS_STATUS softloss_softmax_topk(const softloss_array* x, const softloss_mutable_array* prob,
                                      const softloss_mutable_array* index,
                                      const softloss_topk_options* options);
SOFTLOSS_STATUS softloss_token_logprobs(const softloss_array* logits, const softloss_array* target,
                                        const softloss_token_scores* out,
                                        const softloss_token_options* options);
SOFTLOSS_STATUS softloss_softmax_entropy(const softloss_array* logits, const softloss_mutable_array* out,
                                         const softloss_entropy_options* options);
SOFTLOSS_STATUS softloss_sample(const softloss_array* logits, const softloss_array* u,
                                const softloss_mutable_array* index, const softloss_mutable_array* logprob,
                                const softloss_sample_options* options);

/* ---- calibration ---- */

SOFTLOSS_STATUS softloss_fit_temperature(const softloss_array* logits, const softloss_array* target,
                                         const softloss_temperature_options* options,
                                         softloss_temperature_fit* fit);
SOFTLOSS_STATUS softloss_calibration_error(const softloss_array* logits, const softloss_array* target,
                                           const softloss_calibration_options* options, double* error);

/* ---- threads, build ---- */

SOFTLOSS_API softloss_status softloss_set_num_threads(int32_t n);
SOFTLOSS_API int32_t softloss_get_num_threads(void);
SOFTLOSS_API int32_t softloss_has_openmp(void);

/* usable_isas: the instruction sets that can run here, slowest first, then NULL. isa: the one in use. set_isa selects
 * one, for tests. */
SOFTLOSS_API const char* const* softloss_usable_isas(void);
SOFTLOSS_API const char* softloss_isa(void);
SOFTLOSS_STATUS softloss_set_isa(const char* name);

#ifdef __cplusplus
}
#endif

#endif
