// Checks of arguments: shapes, dtypes, overlap, values, labels. Each error names the argument, its value, and
// what is allowed.
//
// Lives here: every check that more than one function makes, and the text of its error. Must not: writes to
// arrays, what an operation means.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

#include "plan.hpp"
#include "softloss/softloss.hpp"

namespace softloss {

using std::int64_t;

/// Throws std::invalid_argument.
[[noreturn]] void fail(const std::string& message);

/// A number in as few digits as identify it (at least 6): a value just outside a range must not print as if
/// it were inside.
std::string text_of(double value);
std::string digits_of(int64_t value);

// ---- single arguments ------------------------------------------------------------------------------------

/// Rejects views that no function can use: unknown dtype, shape and strides of different lengths, extents or
/// strides too large for address arithmetic, elements but no memory.
void check_view(const char* name, const TensorView& view);

/// An argument that has passed check_view, with the strides of C order if it came without strides. It may be
/// absent: get() is null then.
template <class View>
class Argument {
  public:
    Argument(const char* name, const View* view) {
        if (!view) return;
        check_view(name, *view);
        view_ = *view;
        present_ = true;
        if (view_.strides.size() == view_.shape.size()) return;
        c_order_ = contiguous_strides(view_.shape, size_of(view_.dtype));
        view_.strides = c_order_;
    }
    Argument(const char* name, const View& view) : Argument(name, &view) {}
    Argument(const Argument&) = delete;

    const View* get() const { return present_ ? &view_ : nullptr; }
    const View& operator*() const { return view_; }

  private:
    View view_{};
    bool present_ = false;
    Dims c_order_;
};
using Input = Argument<TensorView>;
using Output = Argument<MutableTensorView>;

// ---- shapes ----------------------------------------------------------------------------------------------

bool same_shape(std::span<const int64_t> a, std::span<const int64_t> b);
Dims without_axis(std::span<const int64_t> shape, int axis);
/// Rejects an array of another shape than that of x.
void check_same_shape(const TensorView& x, const char* name, const TensorView& other, const char* other_name);
/// Rejects rows of length 0.
void check_classes(const TensorView& x, int axis, const char* name);
/// Rejects a target whose shape is not that of x without the axis (class indices) or of x (class
/// probabilities).
void check_target_shape(const TensorView& x, const TensorView& target, int axis, const char* name);

/// Rejects class weights that are not one per class, and sample weights that are not one per row; both may be
/// null.
void check_weights(const TensorView* weight, int64_t classes, const TensorView* sample_weight,
                   std::span<const int64_t> row_shape);

// ---- outputs and overlap ---------------------------------------------------------------------------------

/// True if an element of a shares a byte with one of b. Exact for all usual arrays, slices and fields of one
/// array; where an exact answer would take long, the answer is true.
bool overlaps(const TensorView& a, const TensorView& b);

/// An input, and the output that may be the same array (null if none may).
struct Read {
    const char* name;
    const TensorView* view;  ///< or null
    const MutableTensorView* in_place = nullptr;
};
struct Written {
    const char* name;
    const MutableTensorView* view;  ///< or null
};
/// Rejects outputs that share memory with an input (unless both are the same array and the input allows it),
/// with another output, or within themselves.
void check_memory(std::initializer_list<Read> inputs, std::initializer_list<Written> outputs);

void check_floats(const MutableTensorView& out, const char* name);
/// An output for losses, one per element of `shape`; it may be absent.
void check_losses(const MutableTensorView* losses, std::span<const int64_t> shape);
/// An output of the shape of x and a floating dtype.
void check_like(const TensorView& x, const char* name, const MutableTensorView& out, const char* out_name);

// ---- values ----------------------------------------------------------------------------------------------

void check_hessian(const HessianOptions& h);
void check_gamma(double gamma);
void check_focal(double gamma, std::optional<double> alpha);
/// The dtype that a loss of x computes in: that of the options, or else the default for the dtype of x.
DType resolved(std::optional<DType> compute_dtype, const TensorView& x);
void check_temperature(double t);
/// Reduction::none needs an array for the losses.
void check_reduction(Reduction reduction, const MutableTensorView* losses);
void check_where(const TensorView* where);
/// Rejects labels that are neither a class nor ignored: the error names the first one and counts them.
/// Returns how many labels are ignored.
int64_t check_labels(const TensorView& target, int64_t classes, std::optional<int64_t> ignore);

// Probabilities must be in [0, 1], up to rounding: values outside by no more than 4 ULP of 1 count as 0 or 1.
// The ULP is that of the coarser of the array's dtype and the dtype that is computed in, to which a loss
// converts its inputs first.

double unit_slack(DType dtype, DType computed);
/// Rejects elements outside [0, 1], before anything is written.
void check_unit(const char* name, const TensorView& view, DType computed);
/// Rejects elements below 0; view may be null.
void check_not_negative(const char* name, const TensorView* view);
/// Rejects elements other than 0 and 1.
void check_hard(const char* name, const TensorView& view);
/// Rejects elements outside [0, 1] at the class indices. For losses that read no other elements.
void check_unit_at_labels(const char* name, const TensorView& x, int axis, const TensorView& target,
                          std::optional<int64_t> ignore);
/// Rejects elements outside [0, 1), NaN included.
void check_uniform(const char* name, const TensorView& view);
/// Throws the error that names the first element outside [0, 1].
[[noreturn]] void fail_outside(const char* name, const TensorView& view, DType computed);

}  // namespace softloss
