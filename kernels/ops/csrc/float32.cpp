// Linear layers in float32.

#include <torch/library.h>

#include "panels.h"

namespace ramet {
namespace {

struct Float32 {
  using Weight = float;
  using Input = float;
  using Weights = Floats;
  static constexpr at::ScalarType kWeight = at::kFloat, kInput = at::kFloat;
  static constexpr bool kExact = true;
  static constexpr int kStep = 1;

  static void take(const float*, int64_t, float*) {}

  static Weights load(const float* from) {
    return ramet::load(from);
  }

  static Floats add(Floats sums, Weights weights, const float* x) {
    return sums + *x * weights;
  }
};

}  // namespace

TORCH_LIBRARY_FRAGMENT(ramet, library) {
  library.def(
      "float_linear(Tensor x, Tensor weight, int outputs, Tensor? bias, Tensor? residual, "
      "Tensor? norm, float eps, bool gated) -> Tensor",
      &panel_linear<Float32>);
}

}  // namespace ramet
