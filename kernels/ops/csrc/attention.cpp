// Paged attention over block tables, on CPU.
//
// A unit of work is one key head of some items (queries of one sequence). Its queries stay in place
// with their running maximum, sum and result (FlashAttention, arXiv 2205.14135, section 3.1) while
// keys pass by: first those that several of them share, in passes, each over a run of keys for a
// range of items; then each item's own. So nothing is gathered, nothing is merged, and a shared run
// is a matrix product for all who share it.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <atomic>
#include <numeric>

#include "operators.h"
#include "products.h"
#include "rows.h"

namespace ramet {
namespace {

// As in units.py.
struct Item {
  int64_t sequence, row, rows, end;
  int64_t begin;                    // of its own keys: those before have passed by
  int64_t base;                     // tokens before its tree; -1: it is a chain
  int64_t depths, ancestors, size;  // where its tree begins in these, and its rows
};

struct Pass {
  int64_t first, last;  // items that share them
  int64_t begin, end;   // keys
};

struct Unit {
  int64_t first, last;              // items
  int64_t first_pass, last_pass;
};

template <typename Row>
const Row* rows_of(const at::Tensor& tensor) {
  return reinterpret_cast<const Row*>(tensor.const_data_ptr<int64_t>());
}

// What all units of a step have in common.
struct Work {
  const Unit* units;
  const Pass* passes;
  const Item* items;
  const int64_t* tables;
  int64_t width;  // of a table
  const uint8_t* ancestors;
  const int64_t* depths;
  int64_t stride, heads, groups;  // of a query's rows; query heads, and those of a key head
  float scale, softcap;           // softcap 0: none
  int64_t window;                 // 0: none
};

struct Scratch {
  Queries seen;
  std::vector<int64_t> slots;
  std::vector<float> across, staged;
};

// Keys begin ... end of a table pass by the queries first ... first + count.
template <typename T, typename Mask>
void attend_range(const Cache<T>& cache, const int64_t* table, int64_t begin, int64_t end,
                  Scratch& scratch, int64_t first, int64_t count, float softcap,
                  const Mask& mask) {
  Queries& seen = scratch.seen;
  const int64_t dim = cache.dim, total = end - begin;
  if (total <= 0 || count == 0) return;
  cache.find(table, begin, end, scratch.slots);
  scratch.across.resize(dim * kLanes * kScoreVectors);
  const float* query = &seen.query[first * dim];
  float* scores = &seen.scores[first * kStride];
  float* out = &seen.out[first * dim];
  for (int64_t from = 0; from < total; from += kChunk) {
    const int64_t* slots = &scratch.slots[from];
    const int64_t length = std::min<int64_t>(kChunk, total - from);
    const int64_t wide = count <= kFew ? kLanes : kLanes * kScoreVectors;
    for (int64_t k = 0; k < length; k += wide) {
      const int some = int(std::min(wide, length - k));
      for (int64_t at = k; at < k + some; ++at) {
        if (from + at + kAhead < total) prefetch(cache.keys + slots[at + kAhead] * dim, dim);
        prefetch(cache.values + slots[at] * dim, dim);
      }
      if (count <= kFew)
        score_few(cache.keys, slots + k, some, query, count, dim, scores + k);
      else
        score_many(cache.keys, slots + k, some, query, count, dim, scratch.across.data(),
                   scores + k);
    }
    mask(begin + from, begin + from + length);
    weigh(seen, first, count, length, softcap);
    const auto direct = [&](int64_t k) { return cache.values + slots[k] * dim; };
    if (std::is_same_v<T, float> || count <= kFew) {
      add_values(direct, length, scores, count, dim, out);
    } else {
      scratch.staged.resize(kChunk * dim);
      float* staged = scratch.staged.data();
      for (int64_t k = 0; k < length; ++k) widen(direct(k), dim, staged + k * dim);
      add_values([&](int64_t k) { return staged + k * dim; }, length, scores, count, dim, out);
    }
  }
}

// Hides from the rows of an item what they do not see of the places begin ... stop.
void hide(const Item& item, const Work& work, int64_t begin, int64_t stop, float* scores) {
  const int64_t groups = work.groups, window = work.window;
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
    const uint8_t* sees = work.ancestors + item.ancestors + me * item.size;
    const int64_t position = item.base + work.depths[item.depths + me];
    for (int64_t k = begin; k < stop; ++k) {
      const int64_t other = k - item.base;
      const int64_t at = other < 0 ? k : item.base + work.depths[item.depths + other];
      if ((other >= 0 && !sees[other]) || (window && at <= position - window))
        never(k - begin, k - begin + 1);
    }
  }
}

template <typename T, typename X>
void attend_unit(const Cache<T>& cache, const Unit& unit, const Work& work, int64_t first_head,
                 const X* query, X* out) {
  static thread_local Scratch scratch;
  Queries& seen = scratch.seen;
  const int64_t groups = work.groups, dim = cache.dim;
  const auto rows_between = [&](int64_t first, int64_t last) {
    return std::accumulate(work.items + first, work.items + last, int64_t{0},
                           [&](int64_t sum, const Item& item) { return sum + item.rows; });
  };
  seen.begin(rows_between(unit.first, unit.last) * groups, dim);
  const auto each_row = [&](auto&& visit) {
    int64_t at = 0;
    for (int64_t i = unit.first; i < unit.last; ++i)
      for (int64_t row = 0; row < work.items[i].rows; ++row)
        for (int64_t g = 0; g < groups; ++g, ++at)
          visit(at * dim, work.items[i].row + row, (first_head + g) * dim);
  };
  each_row([&](int64_t mine, int64_t row, int64_t head) {
    const X* from = query + row * work.stride + head;
    for (int64_t d = 0; d < dim; ++d) seen.query[mine + d] = float(from[d]) * work.scale;
  });
  for (int64_t i = unit.first_pass; i < unit.last_pass; ++i) {
    const Pass& pass = work.passes[i];
    attend_range(cache, work.tables + work.items[pass.first].sequence * work.width, pass.begin,
                 pass.end, scratch, rows_between(unit.first, pass.first) * groups,
                 rows_between(pass.first, pass.last) * groups, work.softcap,
                 [](int64_t, int64_t) {});
  }
  int64_t first = 0;
  for (int64_t i = unit.first; i < unit.last; ++i) {
    const Item& item = work.items[i];
    const int64_t clear = item.base < 0 ? item.end - item.rows : item.base;
    const int64_t begin =
        work.window ? std::max<int64_t>(item.begin, clear - work.window + 1) : item.begin;
    attend_range(cache, work.tables + item.sequence * work.width, begin, item.end, scratch, first,
                 item.rows * groups, work.softcap, [&](int64_t from, int64_t stop) {
                   if (stop > clear + 1 || item.base >= 0 || work.window)
                     hide(item, work, from, stop, &seen.scores[first * kStride]);
                 });
    first += item.rows * groups;
  }
  each_row([&](int64_t mine, int64_t row, int64_t head) {
    X* to = out + row * work.heads * dim + head;
    const float part = 1.0f / seen.sum[mine / dim];
    for (int64_t d = 0; d < dim; ++d) to[d] = X(seen.out[mine + d] * part);
  });
}

template <typename T, typename X>
void attend_all(const at::Tensor& query, const at::Tensor& cache, int64_t units, int64_t block,
                const Work& work, at::Tensor& out) {
  const int64_t kv_heads = cache.size(1), slots = cache.size(2), dim = cache.size(3);
  const int64_t count = units * kv_heads;
  const T* keys = cache.const_data_ptr<T>();
  const X* from = query.const_data_ptr<X>();
  X* to = out.mutable_data_ptr<X>();
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), count);
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) {
      const int64_t head = i % kv_heads;
      const Cache<T> mine{keys + head * slots * dim, keys + (kv_heads + head) * slots * dim, dim,
                          block};
      attend_unit(mine, work.units[i / kv_heads], work, head * work.groups, from, to);
    }
  });
}

}  // namespace

at::Tensor attend(const at::Tensor& query, const at::Tensor& cache, const at::Tensor& tables,
                  const at::Tensor& units, const at::Tensor& passes, const at::Tensor& items,
                  const at::Tensor& ancestors, const at::Tensor& depths, int64_t block,
                  double scale, int64_t window, double softcap) {
  for (const auto& each : {cache, tables, units, passes, items, ancestors, depths})
    TORCH_CHECK(each.is_contiguous(), "attend: all but the query must be contiguous");
  TORCH_CHECK(cache.dim() == 4 && query.dim() == 3 && cache.size(3) == query.size(2) &&
                  query.size(1) % cache.size(1) == 0 && fits(query, cache),
              "attend: a query [T, heads, dim], of the type of its cache [2, kv_heads, slots, dim] "
              "or float32");
  TORCH_CHECK(units.size(1) == 4 && passes.size(1) == 4 && items.size(1) == 9,
              "attend: units [U, 4], passes [P, 4] and items [I, 9]");
  const at::Tensor rows = dense(query);
  at::Tensor out = at::empty(query.sizes(), query.options());
  const Work work{rows_of<Unit>(units),
                  rows_of<Pass>(passes),
                  rows_of<Item>(items),
                  tables.const_data_ptr<int64_t>(),
                  tables.size(1),
                  ancestors.const_data_ptr<uint8_t>(),
                  depths.const_data_ptr<int64_t>(),
                  rows.stride(0),
                  query.size(1),
                  query.size(1) / cache.size(1),
                  float(scale),
                  float(softcap),
                  window};
  RAMET_BY_DTYPE(rows, cache,
                 (attend_all<T, X>(rows, cache, units.size(0), block, work, out)))
  return out;
}

TORCH_LIBRARY(ramet, library) {
  library.def(
      "attend(Tensor query, Tensor cache, Tensor tables, Tensor units, Tensor passes, "
      "Tensor items, Tensor ancestors, Tensor depths, int block, float scale, int window, "
      "float softcap) -> Tensor",
      &attend);
}

}  // namespace ramet
