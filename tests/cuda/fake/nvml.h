// How the fake management library behaves; it exports fake_nvml_state.
#pragma once

struct FakeNvmlState {
  int init_error = 0;
  int error = 0;  // of every question
  bool has_ecc = true, refuses_events = false;
  int num_xid_errors = 0;                 // that nobody has fetched yet
  int num_users = 0, num_event_sets = 0;  // that were not given back
};

// nvmlEventData_t, 32 bytes.
struct FakeNvmlEvent {
  void* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

extern "C" FakeNvmlState fake_nvml_state;
