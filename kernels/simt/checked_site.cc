#include "kernels/simt/checked_site.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

namespace sluice::simt {
namespace {

// The folder of the sources is cut off, as __FILE__'s is by the build or is not.
std::string_view WithoutRoot(std::string_view file) {
  for (const std::string_view folder : {"/kernels/", "/tests/"}) {
    const size_t at = file.rfind(folder);
    if (at != std::string_view::npos) return file.substr(at + 1);
  }
  return file;
}

// Headers whose lines say less than those that call them.
bool IsWrapper(std::string_view file) {
  return file.starts_with("/usr/") || file.ends_with("kernels/cuda/device.h") ||
         file.ends_with("kernels/cuda/matrix.h") || file.ends_with("kernels/cuda/number.h") ||
         file.ends_with("kernels/simt/grid.h");
}

bool HandsInArguments(std::string_view file) {
  return file.starts_with("/usr/") || file.ends_with("kernels/cuda/launch.h") ||
         file.ends_with("kernels/simt/grid.h");
}

// "FILE:LINE" for the code and for the calls it was inlined into, innermost first.
std::vector<std::string> LinesOf(const void* code) {
  Dl_info info;
  if (dladdr(code, &info) == 0) return {};
  // The return address is behind the call of the hook; the byte before it is within.
  const auto offset =
      reinterpret_cast<uintptr_t>(code) - reinterpret_cast<uintptr_t>(info.dli_fbase) - 1;
  std::array<char, 4096> path{};
  if (realpath(info.dli_fname, path.data()) == nullptr) return {};
  const std::string command =
      fmt::format("addr2line -i -e '{}' {:#x} 2>/dev/null", path.data(), offset);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(popen(command.c_str(), "r"), pclose);
  if (out == nullptr) return {};
  std::vector<std::string> lines;
  std::array<char, 4096> line{};
  while (std::fgets(line.data(), line.size(), out.get()) != nullptr) {
    std::string_view text = line.data();
    text = text.substr(0, text.find_first_of("\n "));  // behind a space: which of the line's blocks
    if (!text.starts_with("??")) lines.emplace_back(text);
  }
  return lines;
}

}  // namespace

SiteTable::Id SiteTable::OfCode(const void* return_address) {
  Recent& recent = recent_[reinterpret_cast<uintptr_t>(return_address) / 4 % std::size(recent_)];
  if (recent.key == return_address && recent.line == 0) return recent.id;
  const auto [known, added] = ids_.try_emplace({return_address, 0}, kUnknown);
  if (added) known->second = Add({.code = return_address});
  recent = {return_address, 0, known->second};
  return recent.id;
}

SiteTable::Id SiteTable::OfCall(const Site& site) {
  const auto hash = reinterpret_cast<uintptr_t>(site.file) / 8 + site.line * 7;
  Recent& recent = recent_[hash % std::size(recent_)];
  if (recent.key == site.file && recent.line == site.line) return recent.id;
  const auto [known, added] = ids_.try_emplace({site.file, site.line}, kUnknown);
  if (added) known->second = Add({.source = {.site = site, .of_kernel = true}});
  recent = {site.file, site.line, known->second};
  return recent.id;
}

SiteTable::Id SiteTable::Add(Entry entry) {
  if (entries_.size() > UINT16_MAX) return kUnknown;
  entries_.push_back(entry);
  return static_cast<Id>(entries_.size() - 1);
}

const SiteTable::Source& SiteTable::Find(Id id) {
  Entry& entry = entries_[id];
  if (entry.code != nullptr) {
    entry.source = Resolve(entry.code);
    entry.code = nullptr;
  }
  return entry.source;
}

SiteTable::Source SiteTable::Resolve(const void* code) {
  const std::vector<std::string> lines = LinesOf(code);
  if (lines.empty()) return {.site = {"?", 0}, .of_kernel = true};
  const auto file_of = [](const std::string& line) {
    return std::string_view(line).substr(0, line.rfind(':'));
  };
  const auto own = std::ranges::find_if_not(
      lines, [&](const std::string& line) { return IsWrapper(file_of(line)); });
  const std::string& line = own == lines.end() ? lines.front() : *own;
  files_.emplace_back(WithoutRoot(file_of(line)));
  const auto number = std::strtoul(line.c_str() + line.rfind(':') + 1, nullptr, 10);
  return {.site = {files_.back().c_str(), static_cast<uint32_t>(number)},
          .of_kernel = !std::ranges::all_of(
              lines, [&](const std::string& frame) { return HandsInArguments(file_of(frame)); })};
}

}  // namespace sluice::simt
