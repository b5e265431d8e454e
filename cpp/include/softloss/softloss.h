/* The C API of softloss, for C and every language that calls C: the functions of softloss.hpp on plain structs.
 *
 * Lives here: declarations. Must not: C++, documentation of what is computed, which is softloss.hpp's.
 *
 * What can fail returns a status. On failure nothing has been written, and softloss_last_error() tells what was wrong,
 * as the message of the C++ exception would. Options may be NULL, for the defaults; else fill the struct by its _init
 * function, then change what you want: so a program keeps its meaning when options are added.
 */
#ifndef SOFTLOSS_H
#define SOFTLOSS_H

#include <stdint.h>

#include "softloss/export.h"

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

/* A view of an array that the caller owns. Inputs are only read. */
typedef struct softloss_array {
    void* data;
    const int64_t* shape;
    const int64_t* strides; /* in bytes, of any sign; NULL: C order */
    int32_t ndim;
    int32_t dtype;   /* a softloss_dtype */
    int32_t swapped; /* not 0: the elements are of the other byte order */
} softloss_array;

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
    double label_smoothing; /* cross_entropy alone */
    double temperature;     /* cross_entropy alone */
    double empty;
    int32_t axis;
    int32_t ignore;    /* 0: no label is ignored */
    int32_t reduction; /* a softloss_reduction */
    int32_t dtype;     /* a softloss_dtype: SOFTLOSS_FLOAT64 to compute in double */
} softloss_class_loss_options;

typedef struct softloss_binary_loss_options {
    const softloss_array* weight;     /* or NULL */
    const softloss_array* pos_weight; /* or NULL; logits alone */
    double empty;
    int32_t reduction; /* a softloss_reduction */
    int32_t dtype;     /* a softloss_dtype */
} softloss_binary_loss_options;

typedef struct softloss_hessian_options {
    double scale;
    double floor;
} softloss_hessian_options;

typedef struct softloss_score_options {
    int64_t k;
    int64_t ignore_index; /* token_logprobs alone */
    double temperature;
    int32_t axis;
    int32_t ignore; /* 0: no label is ignored */
} softloss_score_options;

/* Where softloss_token_logprobs puts what; any may be NULL. */
typedef struct softloss_token_scores {
    const softloss_array* logprob;
    const softloss_array* argmax;
    const softloss_array* rank;
    const softloss_array* entropy;
    const softloss_array* top_logprob;
    const softloss_array* top_index;
} softloss_token_scores;

SOFTLOSS_API void softloss_transform_options_init(softloss_transform_options* options);
SOFTLOSS_API void softloss_logsumexp_options_init(softloss_logsumexp_options* options);
SOFTLOSS_API void softloss_class_loss_options_init(softloss_class_loss_options* options);
SOFTLOSS_API void softloss_binary_loss_options_init(softloss_binary_loss_options* options);
SOFTLOSS_API void softloss_hessian_options_init(softloss_hessian_options* options);
SOFTLOSS_API void softloss_score_options_init(softloss_score_options* options); /* k = 1 */

/* What was wrong in the last call of this thread that failed; "" before any. Good until the next one fails. */
SOFTLOSS_API const char* softloss_last_error(void);

/* ---- transforms ---- */

SOFTLOSS_API softloss_status softloss_softmax(const softloss_array* x, const softloss_array* y,
                                              const softloss_transform_options* options);
SOFTLOSS_API softloss_status softloss_log_softmax(const softloss_array* x, const softloss_array* y,
                                                  const softloss_transform_options* options);
SOFTLOSS_API softloss_status softloss_logsumexp(const softloss_array* x, const softloss_array* y,
                                                const softloss_logsumexp_options* options);
SOFTLOSS_API softloss_status softloss_sigmoid(const softloss_array* x, const softloss_array* y);
SOFTLOSS_API softloss_status softloss_log_sigmoid(const softloss_array* x, const softloss_array* y);
SOFTLOSS_API softloss_status softloss_softmax_backward(const softloss_array* y, const softloss_array* dy,
                                                       const softloss_array* dx, int32_t axis);
SOFTLOSS_API softloss_status softloss_log_softmax_backward(const softloss_array* y, const softloss_array* dy,
                                                           const softloss_array* dx, int32_t axis);

/* ---- losses: the reduced one goes to *loss, the unreduced ones to losses; the other may be NULL ---- */

SOFTLOSS_API softloss_status softloss_cross_entropy(const softloss_array* logits,
                                                    const softloss_array* target,
                                                    const softloss_class_loss_options* options, double* loss,
                                                    const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_nll_loss(const softloss_array* log_probs, const softloss_array* target,
                                               const softloss_class_loss_options* options, double* loss,
                                               const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_categorical_cross_entropy(const softloss_array* probs,
                                                                const softloss_array* target,
                                                                const softloss_class_loss_options* options,
                                                                double* loss, const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_binary_cross_entropy(const softloss_array* probs,
                                                           const softloss_array* target,
                                                           const softloss_binary_loss_options* options,
                                                           double* loss, const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_binary_cross_entropy_with_logits(
    const softloss_array* logits, const softloss_array* target, const softloss_binary_loss_options* options,
    double* loss, const softloss_array* losses);

/* ---- losses with their gradients ---- */

SOFTLOSS_API softloss_status softloss_cross_entropy_and_grad(const softloss_array* logits,
                                                             const softloss_array* target,
                                                             const softloss_array* grad,
                                                             const softloss_class_loss_options* options,
                                                             double* loss, const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_nll_loss_and_grad(const softloss_array* log_probs,
                                                        const softloss_array* target,
                                                        const softloss_array* grad,
                                                        const softloss_class_loss_options* options,
                                                        double* loss, const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_categorical_cross_entropy_and_grad(
    const softloss_array* probs, const softloss_array* target, const softloss_array* grad,
    const softloss_class_loss_options* options, double* loss, const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_binary_cross_entropy_and_grad(
    const softloss_array* probs, const softloss_array* target, const softloss_array* grad,
    const softloss_binary_loss_options* options, double* loss, const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_binary_cross_entropy_with_logits_and_grad(
    const softloss_array* logits, const softloss_array* target, const softloss_array* grad,
    const softloss_binary_loss_options* options, double* loss, const softloss_array* losses);
SOFTLOSS_API softloss_status softloss_cross_entropy_grad_hess(const softloss_array* logits,
                                                              const softloss_array* target,
                                                              const softloss_array* grad,
                                                              const softloss_array* hess,
                                                              const softloss_class_loss_options* options,
                                                              const softloss_hessian_options* hessian);
SOFTLOSS_API softloss_status softloss_binary_cross_entropy_with_logits_grad_hess(
    const softloss_array* logits, const softloss_array* target, const softloss_array* grad,
    const softloss_array* hess, const softloss_binary_loss_options* options,
    const softloss_hessian_options* hessian);

/* ---- scores; options NULL: k = 1 ---- */

SOFTLOSS_API softloss_status softloss_softmax_topk(const softloss_array* x, const softloss_array* prob,
                                                   const softloss_array* index,
                                                   const softloss_score_options* options);
SOFTLOSS_API softloss_status softloss_token_logprobs(const softloss_array* logits,
                                                     const softloss_array* target,
                                                     const softloss_token_scores* out,
                                                     const softloss_score_options* options);

/* ---- threads, build ---- */

SOFTLOSS_API softloss_status softloss_set_num_threads(int32_t n);
SOFTLOSS_API int32_t softloss_get_num_threads(void);
SOFTLOSS_API int32_t softloss_has_openmp(void);

/* The instruction sets that can run here, slowest first, NULL after the last; the one in use; choosing one (for tests). */
SOFTLOSS_API const char* const* softloss_usable_isas(void);
SOFTLOSS_API const char* softloss_isa(void);
SOFTLOSS_API softloss_status softloss_set_isa(const char* name);

#ifdef __cplusplus
}
#endif

#endif
