// What `top -H` and a profile call a thread.
#pragma once

#include <pthread.h>

namespace sluice {

// The calling thread's; at most 15 characters. The first thread's is the process's: leave it.
inline void NameThread(const char* name) { pthread_setname_np(pthread_self(), name); }

}  // namespace sluice
