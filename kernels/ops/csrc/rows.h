// What kernels ask of the tensors they are given.
#pragma once

#include <ATen/core/Tensor.h>

namespace ramet {

#define RAMET_BY_DTYPE(tensor, call)                                     \
  switch ((tensor).scalar_type()) {                                      \
    case at::kFloat: { using T = float; call; break; }                   \
    case at::kBFloat16: { using T = c10::BFloat16; call; break; }        \
    case at::kHalf: { using T = c10::Half; call; break; }                \
    default: TORCH_CHECK(false, "keys and values must be float32, bfloat16 or float16"); \
  }

// Rows may lie apart, but each is whole: [n, heads, dim] with the last two dense.
inline at::Tensor dense(const at::Tensor& rows) {
  const bool whole = rows.stride(2) == 1 && rows.stride(1) == rows.size(2);
  return whole ? rows : rows.contiguous();
}

}  // namespace ramet
