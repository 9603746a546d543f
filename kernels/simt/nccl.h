// NCCL without a card: what kernels/cuda/collectives.cc calls, over the emulated devices of one
// process. A collective ends when all ranks' have begun, and adds in ascending order of ranks. Once
// a rank has aborted, its own end at once, the others' when they abort too; none computes anything.
//
// Stricter than NCCL, which hangs or returns nonsense: ranks whose collectives differ fail their
// devices; a thread that enqueues for two ranks outside a group is refused. A rank's collectives on
// several streams must be ordered by events; NCCL takes them as they were enqueued.
#pragma once

namespace sluice::simt {

// The emulated function of this name; null if there is none.
void* FindNcclFunction(const char* name);

}  // namespace sluice::simt
