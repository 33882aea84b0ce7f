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

at::Tensor float_linear(const at::Tensor& x, const at::Tensor& weight, int64_t outputs,
                        const MaybeTensor& bias, const MaybeTensor& residual,
                        const MaybeTensor& norm, double eps, bool gated) {
  return panel_linear<Float32>(x, weight, outputs, bias, residual, norm, eps, gated);
}

TORCH_LIBRARY_FRAGMENT(ramet, library) {
  library.def(
      "float_linear(Tensor x, Tensor weight, int outputs, Tensor? bias, Tensor? residual, "
      "Tensor? norm, float eps, bool gated) -> Tensor",
      &float_linear);
}

}  // namespace ramet
