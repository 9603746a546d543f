// Says which kernel, block and thread died of an access to memory that is not there: a guard page,
// freed memory, another's. Private to this folder.
#pragma once

namespace sluice::simt {

// From now on, unless the program (or a sanitizer) handles SIGSEGV itself. Once a thread.
void ExplainCrashes();

}  // namespace sluice::simt
