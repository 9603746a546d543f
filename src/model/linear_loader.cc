#include "model/linear_loader.h"

#include <memory>
#include <vector>

#include "base/status_macros.h"
#include "model/quantise.h"
#include "model/weight_source.h"

namespace sluice {

DType RoundedType(const WeightView& weight, LinearRole role, std::optional<DType> quantise) {
  if (!quantise.has_value() || role == LinearRole::kRouter) return weight.dtype;
  const DType type = role == LinearRole::kHead ? DType::kQ8_0 : *quantise;
  const bool is_float = GetDTypeInfo(weight.dtype).block_elements == 1;
  const bool whole_blocks = weight.cols % GetDTypeInfo(type).block_elements == 0;
  return is_float && whole_blocks ? type : weight.dtype;
}

namespace {

std::unique_ptr<uint8_t[]> Rows(const WeightView& view) {
  return std::make_unique_for_overwrite<uint8_t[]>(
      static_cast<size_t>(view.rows * view.row_bytes()));
}

}  // namespace

absl::StatusOr<std::vector<WeightView>> LinearLoader::Round(
    std::span<const WeightView> parts, LinearRole role,
    std::vector<std::unique_ptr<uint8_t[]>>& rounded) {
  std::vector<WeightView> ready(parts.begin(), parts.end());
  for (WeightView& part : ready) {
    std::unique_ptr<uint8_t[]> made;
    if (part.source != nullptr) {
      made = Rows(part);
      RETURN_IF_ERROR(MakeRows(part, 0, part.rows, options_.threads, made.get()));
      part = {part.dtype, part.rows, part.cols, made.get()};
    }
    if (const DType type = RoundedType(part, role, options_.quantise); type != part.dtype) {
      WeightView out{type, part.rows, part.cols};
      std::unique_ptr<uint8_t[]> rows = Rows(out);
      RETURN_IF_ERROR(QuantiseRows(part, type, options_.threads, rows.get()));
      made = std::move(rows);
      out.data = made.get();
      part = out;
    }
    if (made != nullptr) rounded.push_back(std::move(made));
  }
  return ready;
}

void LinearLoader::Packed(std::span<const WeightView> parts) {
  for (const WeightView& part : parts) {
    const int64_t size = part.rows * part.row_bytes();
    bytes_ += size;
    if (!options_.release) continue;
    if (part.source != nullptr) {
      part.source->Release(options_.release);
    } else {
      options_.release({static_cast<const uint8_t*>(part.data), static_cast<size_t>(size)});
    }
  }
  if (options_.progress) options_.progress(bytes_);
}

absl::StatusOr<Linear> LinearLoader::Load(std::span<const WeightView> parts, LinearRole role) {
  std::vector<std::unique_ptr<uint8_t[]>> rounded;  // as long as the packing takes
  ASSIGN_OR_RETURN(const std::vector<WeightView> ready, Round(parts, role, rounded));
  ASSIGN_OR_RETURN(const Linear linear, ops_.LoadLinear(ready));
  Packed(parts);
  return linear;
}

absl::StatusOr<Experts> LinearLoader::LoadExperts(std::span<const WeightView> parts,
                                                  int32_t num_experts) {
  std::vector<std::unique_ptr<uint8_t[]>> rounded;
  ASSIGN_OR_RETURN(const std::vector<WeightView> ready, Round(parts, LinearRole::kPlain, rounded));
  ASSIGN_OR_RETURN(const Experts experts, ops_.LoadExperts(ready, num_experts));
  Packed(parts);
  return experts;
}

namespace {

// Calls f(view, role) for every matrix but the embedding and the head.
template <class F>
void ForLayerMatrices(const WeightViews& weights, const F& f) {
  for (const LayerViews& l : weights.layers) {
    for (const WeightView* view : {&l.q, &l.k, &l.v, &l.qkv, &l.o, &l.gate, &l.up, &l.down,
                                   &l.shared_gate, &l.shared_up, &l.shared_down}) {
      f(*view, LinearRole::kPlain);
    }
    f(l.router, LinearRole::kRouter);
    f(l.shared_router, LinearRole::kRouter);
    for (const auto* experts : {&l.gate_experts, &l.up_experts, &l.down_experts}) {
      for (const WeightView& view : *experts) f(view, LinearRole::kPlain);
    }
  }
}

}  // namespace

int64_t LinearBytes(const WeightViews& weights, std::optional<DType> quantise) {
  int64_t bytes = 0;
  const auto add = [&](const WeightView& view, LinearRole role) {
    if (view.data == nullptr) return;
    const WeightView loaded{RoundedType(view, role, quantise), view.rows, view.cols, nullptr};
    bytes += loaded.rows * loaded.row_bytes();
  };
  ForLayerMatrices(weights, add);
  if (weights.head.data != nullptr) {
    add(weights.head, LinearRole::kHead);
    return bytes;
  }
  add(weights.token_embd, LinearRole::kHead);
  // Rounded, the table has memory of its own, too.
  const WeightView& table = weights.token_embd;
  if (RoundedType(table, LinearRole::kHead, quantise) != table.dtype) add(table, LinearRole::kHead);
  return bytes;
}

int64_t DeviceBytes(const WeightViews& weights, std::optional<DType> quantise,
                    const std::function<int64_t(DType, int64_t, int64_t)>& bytes) {
  int64_t sum = 0;
  const auto add = [&](const WeightView& view, LinearRole role) {
    if (view.data == nullptr) return;
    sum += bytes(RoundedType(view, role, quantise), view.rows, view.cols);
  };
  ForLayerMatrices(weights, add);
  add(weights.head, LinearRole::kHead);
  const bool tied = weights.head.data == nullptr;
  sum += bytes(tied ? RoundedType(weights.token_embd, LinearRole::kHead, quantise)
                    : weights.token_embd.dtype,
               weights.token_embd.rows, weights.token_embd.cols);
  return sum;
}

}  // namespace sluice
