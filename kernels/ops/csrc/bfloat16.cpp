// Linear layers with weights in bfloat16, inputs rounded to it on the way in, and sums in float32.
//
// Two inputs are a step: their weights lie beside each other, as the processor's own products of
// pairs want them (VDPBF16PS). Where it has none, the same weights are widened by a shift and
// multiplied in float32. A product of two bfloat16 numbers is exact in float32, so both ways add the
// same products; they differ in how a sum is rounded on its way, and VDPBF16PS takes what is below
// 2^-126 for 0.

#include <torch/library.h>

#include "panels.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace ramet {
namespace {

// The nearest bfloat16 numbers, of two the even one, as the upper halves of words.
inline Words rounded(Floats x) {
  Words bits;
  std::memcpy(&bits, &x, sizeof bits);
  const Words nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
  return (x == x ? nearest : bits | 0x400000u) & 0xffff0000u;  // NaN stays NaN
}

struct BFloat16 {
  using Weight = c10::BFloat16;
  static constexpr at::ScalarType kWeight = at::kBFloat16;
  static constexpr bool kExact = false;
  static constexpr int kStep = 2;

#ifdef __AVX512BF16__
  using Input = c10::BFloat16;
  using Weights = Words;
  static constexpr at::ScalarType kInput = at::kBFloat16;

  static Weights load(const Weight* from) {
    Words pairs;
    std::memcpy(&pairs, from, sizeof pairs);
    return pairs;
  }

  static Floats add(Floats sums, Weights weights, const Input* x) {
    int32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return (Floats)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(pair),
                                      (__m512bh)weights);
  }
#else
  using Input = float;
  struct Weights {
    Floats even, odd;
  };
  static constexpr at::ScalarType kInput = at::kFloat;

  static Weights load(const Weight* from) {
    Words pairs;
    std::memcpy(&pairs, from, sizeof pairs);
    return {(Floats)(pairs << 16), (Floats)(pairs & 0xffff0000u)};
  }

  static Floats add(Floats sums, Weights weights, const Input* x) {
    sums += x[0] * weights.even;
    return sums + x[1] * weights.odd;
  }
#endif

  static void take(const float* x, int64_t count, Input* to) {
    for (int64_t i = 0; i < count; i += kLanes) {
      const int some = int(std::min<int64_t>(kLanes, count - i));
      const Words words = rounded(load_some(x + i, some));
      if constexpr (std::is_same_v<Input, float>) {
        std::memcpy(to + i, &words, some * sizeof *to);
      } else {
        const Shorts halves = __builtin_convertvector(words >> 16, Shorts);
        std::memcpy(to + i, &halves, some * sizeof *to);
      }
    }
  }
};

}  // namespace

at::Tensor bfloat16_linear(const at::Tensor& x, const at::Tensor& weight, int64_t outputs,
                           const MaybeTensor& bias, const MaybeTensor& residual,
                           const MaybeTensor& norm, double eps, bool gated) {
  return panel_linear<BFloat16>(x, weight, outputs, bias, residual, norm, eps, gated);
}

TORCH_LIBRARY_FRAGMENT(ramet, library) {
  library.def(
      "bfloat16_linear(Tensor x, Tensor weight, int outputs, Tensor? bias, Tensor? residual, "
      "Tensor? norm, float eps, bool gated) -> Tensor",
      &bfloat16_linear);
}

}  // namespace ramet
