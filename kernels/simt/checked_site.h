// Where in a kernel's source an access stands, as a small number. A wrapper of device.h says so
// itself; of a plain access the code's address is known, and binutils' addr2line finds the line
// when it is asked for. Private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "kernels/simt/grid.h"

namespace sluice::simt {

class SiteTable {
 public:
  using Id = uint16_t;
  static constexpr Id kUnknown = 0;  // also what comes after the 65535th

  Id OfCode(const void* return_address);
  Id OfCall(const Site& site);

  struct Source {
    Site site;
    bool of_kernel = false;  // false: what hands a kernel its arguments
  };
  // Starts a process for an access that has not been asked for before: not on a fiber's stack.
  const Source& Find(Id id);

 private:
  struct Entry {
    const void* code = nullptr;  // null: `source` is known
    Source source;
  };
  struct Recent {
    const void* key = nullptr;
    uint32_t line = 0;
    Id id = kUnknown;
  };
  Id Add(Entry entry);
  Source Resolve(const void* code);

  std::deque<Entry> entries_ = {Entry{}};
  std::map<std::pair<const void*, uint32_t>, Id> ids_;  // by code, or by file and line
  std::deque<std::string> files_;
  Recent recent_[1024];  // by a hash of the key: what makes this cheap
};

}  // namespace sluice::simt
