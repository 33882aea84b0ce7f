// Paged attention over block tables, on CPU.
//
// A unit of work is one key head of some items (queries of one sequence) that share a run of leading
// keys. Its queries stay in place with their running maximum, sum and result (online softmax,
// arXiv 1805.02867; FlashAttention, arXiv 2205.14135, section 3.1) while the shared keys pass by once
// for all of them, and then each item's own. So nothing is gathered and nothing is merged.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "rows.h"
#include "vector.h"

namespace ramet {
namespace {

constexpr int kChunk = 256;                // keys whose scores are kept at a time
constexpr int kStride = kChunk + kLanes;  // of a row of scores: the last store may be too wide
constexpr float kNever = -std::numeric_limits<float>::infinity();

struct Item {
  int64_t sequence, row, rows, end;  // as in tiles.py
  int64_t base;                      // tokens before its tree; -1: it is a chain
  int64_t depths, ancestors, size;   // where its tree begins in these, and its rows
};

struct Unit {
  int64_t first, last;  // items
  int64_t run;          // leading keys that they share
};

struct Numbers {
  float scale, softcap;  // softcap 0: none
  int64_t window;        // 0: none
};

// Some keys and values that lie one behind the other.
template <typename T>
struct Segment {
  const T* key;
  const T* value;
  int length;
};

template <typename T>
struct Cache {
  const T* keys;  // of one head [slots + 1, dim]
  const T* values;
  int64_t dim, block;

  // The segments of the places begin ... end of a table.
  void segments(const int64_t* table, int64_t begin, int64_t end,
                std::vector<Segment<T>>& found) const {
    found.clear();
    while (begin < end) {
      const int64_t offset = begin % block;
      const int64_t length = std::min({block - offset, end - begin, int64_t(kLanes)});
      const int64_t at = (table[begin / block] * block + offset) * dim;
      found.push_back({keys + at, values + at, int(length)});
      begin += length;
    }
  }
};

// Queries of a unit [count, dim], and what they have seen so far.
struct Queries {
  int64_t count, dim;
  std::vector<float> query, out, most, sum, scores;

  void begin(int64_t n, int64_t d) {
    count = n, dim = d;
    query.resize(n * d);
    out.assign(n * d, 0.0f);
    most.assign(n, kNever);
    sum.assign(n, 0.0f);
    scores.resize(n * kStride);
  }
};

// Scores of up to 16 keys for a few queries, each as one product along the dimensions.
template <typename T>
void score_few(const Segment<T>& segment, const float* query, int64_t count, int64_t dim,
               float* scores) {
  const int64_t whole = dim - dim % kLanes;
  for (int64_t i = 0; i < count; ++i) {
    Floats rows[kLanes] = {};
    for (int k = 0; k < segment.length; ++k)
      for (int64_t d = 0; d < whole; d += kLanes)
        rows[k] += load(query + i * dim + d) * load(segment.key + k * dim + d);
    Floats total = sums(rows);
    for (int k = 0; k < segment.length; ++k)
      for (int64_t d = whole; d < dim; ++d)
        total[k] += query[i * dim + d] * float(segment.key[k * dim + d]);
    store(scores + i * kStride, total);
  }
}

template <int Count>
void score_block(const float* across, const float* query, int64_t dim, float* scores) {
  Floats total[Count] = {};
  for (int64_t d = 0; d < dim; ++d) {
    const Floats keys = load(across + d * kLanes);
    for (int i = 0; i < Count; ++i) total[i] += query[i * dim + d] * keys;
  }
  for (int i = 0; i < Count; ++i) store(scores + i * kStride, total[i]);
}

// The same for many: the keys are laid across once, and each query's scores are one vector.
template <typename T>
void score_many(const Segment<T>& segment, const float* query, int64_t count, int64_t dim,
                float* across, float* scores) {
  for (int64_t d = 0; d < dim; d += kLanes) {
    const int some = int(std::min<int64_t>(kLanes, dim - d));
    Floats rows[kLanes] = {};
    for (int k = 0; k < segment.length; ++k) {
      const T* key = segment.key + k * dim + d;
      rows[k] = some == kLanes ? load(key) : load_some(key, some);
    }
    transpose(rows);
    for (int i = 0; i < some; ++i) store(across + (d + i) * kLanes, rows[i]);
  }
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    score_block<8>(across, query + i * dim, dim, scores + i * kStride);
  for (; i + 2 <= count; i += 2)
    score_block<2>(across, query + i * dim, dim, scores + i * kStride);
  for (; i < count; ++i) score_block<1>(across, query + i * dim, dim, scores + i * kStride);
}

// out [Count, Vectors * 16] += weights * values, kept in registers over all segments.
template <typename T, int Count, int Vectors>
void add_values(const std::vector<Segment<T>>& segments, const float* weights, int64_t dim,
                int64_t from, float* out) {
  Floats total[Count][Vectors];
  for (int i = 0; i < Count; ++i)
    for (int v = 0; v < Vectors; ++v) total[i][v] = load(out + i * dim + from + v * kLanes);
  int64_t column = 0;
  for (const auto& segment : segments) {
    for (int k = 0; k < segment.length; ++k, ++column) {
      const T* value = segment.value + k * dim + from;
      Floats row[Vectors];
      for (int v = 0; v < Vectors; ++v) row[v] = load(value + v * kLanes);
      for (int i = 0; i < Count; ++i) {
        const float weight = weights[i * kStride + column];
        for (int v = 0; v < Vectors; ++v) total[i][v] += weight * row[v];
      }
    }
  }
  for (int i = 0; i < Count; ++i)
    for (int v = 0; v < Vectors; ++v) store(out + i * dim + from + v * kLanes, total[i][v]);
}

template <typename T>
void add_values(const std::vector<Segment<T>>& segments, const float* weights, int64_t count,
                int64_t dim, float* out) {
  int64_t from = 0;
  for (; from + 4 * kLanes <= dim; from += 4 * kLanes) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
      add_values<T, 4, 4>(segments, weights + i * kStride, dim, from, out + i * dim);
    for (; i < count; ++i)
      add_values<T, 1, 4>(segments, weights + i * kStride, dim, from, out + i * dim);
  }
  for (; from + kLanes <= dim; from += kLanes)
    for (int64_t i = 0; i < count; ++i)
      add_values<T, 1, 1>(segments, weights + i * kStride, dim, from, out + i * dim);
  for (int64_t i = 0; from < dim && i < count; ++i) {
    int64_t column = 0;
    for (const auto& segment : segments)
      for (int k = 0; k < segment.length; ++k, ++column)
        for (int64_t d = from; d < dim; ++d)
          out[i * dim + d] += weights[i * kStride + column] * float(segment.value[k * dim + d]);
  }
}

// Scores become weights, relative to the largest so far; what was summed before is scaled to it.
void weigh(Queries& seen, int64_t first, int64_t count, int64_t keys, float softcap) {
  for (int64_t i = first; i < first + count; ++i) {
    float* scores = &seen.scores[i * kStride];
    std::fill(scores + keys, scores + kStride, kNever);
    const int64_t wide = (keys + kLanes - 1) / kLanes * kLanes;
    Floats most = all(kNever);
    for (int64_t k = 0; k < wide; k += kLanes) {
      Floats x = load(scores + k);
      if (softcap > 0) {
        x = x == kNever ? x : softcap * tanh(x / softcap);
        store(scores + k, x);
      }
      most = larger(most, x);
    }
    float top = seen.most[i];
    for (int lane = 0; lane < kLanes; ++lane) top = std::max(top, most[lane]);
    if (top == kNever) {
      std::fill(scores, scores + wide, 0.0f);
      continue;
    }
    Floats total = {};
    for (int64_t k = 0; k < wide; k += kLanes) {
      const Floats weight = exp_negative(load(scores + k) - top);
      store(scores + k, weight);
      total += weight;
    }
    const float kept = exp_negative(seen.most[i] - top);
    seen.sum[i] = seen.sum[i] * kept + sum(total);
    seen.most[i] = top;
    if (kept != 1.0f)
      for (int64_t d = 0; d < seen.dim; ++d) seen.out[i * seen.dim + d] *= kept;
  }
}

struct Scratch {
  Queries seen;
  std::vector<float> across;
};

template <typename T, typename Mask>
void attend_range(const Cache<T>& cache, const int64_t* table, int64_t begin, int64_t end,
                  Queries& seen, int64_t first, int64_t count, float softcap,
                  std::vector<float>& across, const Mask& mask) {
  static thread_local std::vector<Segment<T>> segments;
  across.resize(seen.dim * kLanes);
  for (; begin < end; begin += kChunk) {
    const int64_t stop = std::min(end, begin + kChunk);
    cache.segments(table, begin, stop, segments);
    const float* query = &seen.query[first * seen.dim];
    int64_t column = 0;
    for (const auto& segment : segments) {
      float* scores = &seen.scores[first * kStride + column];
      if (count <= 4)
        score_few(segment, query, count, seen.dim, scores);
      else
        score_many(segment, query, count, seen.dim, across.data(), scores);
      column += segment.length;
    }
    mask(begin, stop);
    weigh(seen, first, count, stop - begin, softcap);
    add_values(segments, &seen.scores[first * kStride], count, seen.dim,
               &seen.out[first * seen.dim]);
  }
}

// Hides from the rows of an item what they do not see of the places begin ... stop.
void hide(const Item& item, const uint8_t* ancestors, const int64_t* depths, int64_t window,
          int64_t groups, int64_t begin, int64_t stop, float* scores) {
  for (int64_t row = 0; row < item.rows; ++row) {
    const int64_t place = item.end - item.rows + row;
    float* line = scores + row * groups * kStride;
    auto never = [&](int64_t from, int64_t to) {
      for (int64_t g = 0; g < groups && from < to; ++g)
        std::fill(line + g * kStride + from, line + g * kStride + to, kNever);
    };
    if (item.base < 0) {
      never(std::max<int64_t>(0, place + 1 - begin), stop - begin);
      if (window) never(0, std::min(stop, place - window + 1) - begin);
      continue;
    }
    const int64_t me = place - item.base;
    const uint8_t* sees = ancestors + item.ancestors + me * item.size;
    const int64_t position = item.base + depths[item.depths + me];
    for (int64_t k = begin; k < stop; ++k) {
      const int64_t other = k - item.base;
      const int64_t at = other < 0 ? k : item.base + depths[item.depths + other];
      if ((other >= 0 && !sees[other]) || (window && at <= position - window))
        never(k - begin, k - begin + 1);
    }
  }
}

template <typename T>
void attend_unit(const Cache<T>& cache, const Unit& unit, const Item* items, const int64_t* tables,
                 int64_t width, const uint8_t* ancestors, const int64_t* depths, const T* query,
                 int64_t stride, T* out, int64_t heads, int64_t first_head, int64_t groups,
                 const Numbers& numbers) {
  static thread_local Scratch scratch;
  Queries& seen = scratch.seen;
  int64_t rows = 0;
  for (int64_t i = unit.first; i < unit.last; ++i) rows += items[i].rows;
  seen.begin(rows * groups, cache.dim);
  auto each_row = [&](auto&& visit) {
    int64_t at = 0;
    for (int64_t i = unit.first; i < unit.last; ++i)
      for (int64_t row = 0; row < items[i].rows; ++row)
        for (int64_t g = 0; g < groups; ++g, ++at)
          visit(at * cache.dim, items[i].row + row, (first_head + g) * cache.dim);
  };
  each_row([&](int64_t mine, int64_t row, int64_t head) {
    const T* from = query + row * stride + head;
    for (int64_t d = 0; d < cache.dim; ++d) seen.query[mine + d] = float(from[d]) * numbers.scale;
  });
  const int64_t* common = tables + items[unit.first].sequence * width;
  attend_range(cache, common, 0, unit.run, seen, 0, seen.count, numbers.softcap, scratch.across,
               [](int64_t, int64_t) {});
  int64_t first = 0;
  for (int64_t i = unit.first; i < unit.last; ++i) {
    const Item& item = items[i];
    const int64_t count = item.rows * groups;
    const int64_t clear = item.base < 0 ? item.end - item.rows : item.base;
    const int64_t begin =
        numbers.window ? std::max<int64_t>(unit.run, clear - numbers.window + 1) : unit.run;
    attend_range(cache, tables + item.sequence * width, begin, item.end, seen, first, count,
                 numbers.softcap, scratch.across, [&](int64_t from, int64_t stop) {
                   if (stop > clear + 1 || item.base >= 0 || numbers.window)
                     hide(item, ancestors, depths, numbers.window, groups, from, stop,
                          &seen.scores[first * kStride]);
                 });
    first += count;
  }
  each_row([&](int64_t mine, int64_t row, int64_t head) {
    T* to = out + row * heads * cache.dim + head;
    const float part = 1.0f / seen.sum[mine / cache.dim];
    for (int64_t d = 0; d < cache.dim; ++d) to[d] = T(seen.out[mine + d] * part);
  });
}

template <typename T>
void attend_all(const at::Tensor& query, const at::Tensor& cache, const at::Tensor& tables,
                const at::Tensor& units, const at::Tensor& items, const at::Tensor& ancestors,
                const at::Tensor& depths, int64_t block, const Numbers& numbers, at::Tensor& out) {
  const int64_t heads = query.size(1), dim = query.size(2);
  const int64_t kv_heads = cache.size(1), slots = cache.size(2);
  const int64_t count = units.size(0) * kv_heads;
  const T* keys = cache.const_data_ptr<T>();
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), count);
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) {
      const int64_t head = i % kv_heads;
      const Cache<T> mine{keys + head * slots * dim, keys + (kv_heads + head) * slots * dim, dim,
                          block};
      attend_unit(mine, reinterpret_cast<const Unit*>(units.const_data_ptr<int64_t>())[i / kv_heads],
                  reinterpret_cast<const Item*>(items.const_data_ptr<int64_t>()),
                  tables.const_data_ptr<int64_t>(), tables.size(1),
                  ancestors.const_data_ptr<uint8_t>(), depths.const_data_ptr<int64_t>(),
                  query.const_data_ptr<T>(), query.stride(0), out.mutable_data_ptr<T>(), heads,
                  head * (heads / kv_heads), heads / kv_heads, numbers);
    }
  });
}

at::Tensor attend(const at::Tensor& query, const at::Tensor& cache, const at::Tensor& tables,
                  const at::Tensor& units, const at::Tensor& items, const at::Tensor& ancestors,
                  const at::Tensor& depths, int64_t block, double scale, int64_t window,
                  double softcap) {
  for (const auto& each : {cache, tables, units, items, ancestors, depths})
    TORCH_CHECK(each.is_contiguous(), "attend: all but the query must be contiguous");
  TORCH_CHECK(cache.dim() == 4 && query.dim() == 3 && cache.size(3) == query.size(2) &&
                  query.size(1) % cache.size(1) == 0 && query.scalar_type() == cache.scalar_type(),
              "attend: a query [T, heads, dim] needs a cache [2, kv_heads, slots, dim] of its type");
  TORCH_CHECK(units.size(1) == 3 && items.size(1) == 8, "attend: units [U, 3] and items [I, 8]");
  const at::Tensor rows = dense(query);
  at::Tensor out = at::empty(query.sizes(), query.options());
  const Numbers numbers{float(scale), float(softcap), window};
  RAMET_BY_DTYPE(cache, attend_all<T>(rows, cache, tables, units, items, ancestors, depths, block,
                                      numbers, out))
  return out;
}

}  // namespace

TORCH_LIBRARY(ramet, library) {
  library.def(
      "attend(Tensor query, Tensor cache, Tensor tables, Tensor units, Tensor items, "
      "Tensor ancestors, Tensor depths, int block, float scale, int window, float softcap) -> Tensor",
      &attend);
}

}  // namespace ramet
