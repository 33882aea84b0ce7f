// The layers of a decoder in one call: attention and a gated feed-forward, each after a norm (arXiv
// 2302.13971). They are the operators that runtime/models/llama.py calls one by one, in its order:
// here nobody goes back to the interpreter between two of them.

#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>

#include <tuple>
#include <vector>

#include "operators.h"

namespace ramet {
namespace {

// As packed by float32.py, bfloat16.py or int8.py, which alone has scales.
struct Linear {
  at::Tensor weight;
  MaybeTensor scales;
  int64_t outputs;
  MaybeTensor bias;

  at::Tensor operator()(const at::Tensor& x, const MaybeTensor& residual, const MaybeTensor& norm,
                        double eps, bool gated) const {
    if (scales) return int8_linear(x, weight, *scales, outputs, bias, residual, norm, eps, gated);
    const auto linear = weight.scalar_type() == at::kFloat ? float_linear : bfloat16_linear;
    return linear(x, weight, outputs, bias, residual, norm, eps, gated);
  }

  at::Tensor of_norm(const at::Tensor& x, const at::Tensor& norm, double eps) const {
    return (*this)(x, std::nullopt, norm, eps, false);
  }

  at::Tensor added_to(const at::Tensor& residual, const at::Tensor& x, bool gated) const {
    return (*this)(x, residual, std::nullopt, 0.0, gated);
  }
};

using Packed = std::tuple<at::Tensor, MaybeTensor, int64_t, MaybeTensor>;

Linear unpacked(const Packed& packed) { return std::make_from_tuple<Linear>(packed); }

struct Layer {
  at::Tensor attention_norm;
  Linear qkv;
  MaybeTensor query_norm, key_norm;
  Linear out;
  at::Tensor mlp_norm;
  Linear gate_up, down;
  int64_t window;  // 0: none
};

// Units, passes and items of a step; see attention.cpp.
using Cut = std::vector<at::Tensor>;

struct Decoder : torch::CustomClassHolder {
  double eps, scale;
  std::vector<Layer> layers;

  Decoder(double eps, double scale) : eps(eps), scale(scale) {}

  void add(const at::Tensor& attention_norm, const Packed& qkv, const MaybeTensor& query_norm,
           const MaybeTensor& key_norm, const Packed& out, const at::Tensor& mlp_norm,
           const Packed& gate_up, const Packed& down, int64_t window) {
    layers.push_back({attention_norm, unpacked(qkv), query_norm, key_norm, unpacked(out), mlp_norm,
                      unpacked(gate_up), unpacked(down), window});
  }

  // [T, hidden] out of the same. `cut` is for the layers without a window, `windowed` for the rest;
  // `cache` is that of all layers.
  at::Tensor forward(const at::Tensor& embedded, const at::Tensor& cos, const at::Tensor& sin,
                     const at::Tensor& slots, const at::Tensor& cache, const at::Tensor& tables,
                     const Cut& cut, const Cut& windowed, const at::Tensor& ancestors,
                     const at::Tensor& depths, int64_t block) const {
    TORCH_CHECK(cache.dim() == 5 && cache.size(0) == int64_t(layers.size()) && cut.size() == 3 &&
                    windowed.size() == 3,
                "decoder: a cache of as many layers, and cuts of three tensors");
    at::Tensor hidden = embedded;
    for (size_t i = 0; i < layers.size(); ++i) {
      const Layer& layer = layers[i];
      const Cut& mine = layer.window ? windowed : cut;
      const at::Tensor kept = cache.select(0, int64_t(i));
      const at::Tensor joined = layer.qkv.of_norm(hidden, layer.attention_norm, eps);
      const at::Tensor query = write_joined(joined, cos, sin, layer.query_norm, layer.key_norm, eps,
                                            slots, kept);
      const at::Tensor mixed = attend(query, kept, tables, mine[0], mine[1], mine[2], ancestors,
                                      depths, block, scale, layer.window, 0.0);
      hidden = layer.out.added_to(hidden, mixed.flatten(1), false);
      const at::Tensor gate_up = layer.gate_up.of_norm(hidden, layer.mlp_norm, eps);
      hidden = layer.down.added_to(hidden, gate_up, true);
    }
    return hidden;
  }
};

}  // namespace

TORCH_LIBRARY_FRAGMENT(ramet, library) {
  library.class_<Decoder>("Decoder")
      .def(torch::init<double, double>())
      .def("add", &Decoder::add)
      .def("forward", &Decoder::forward);
}

}  // namespace ramet
