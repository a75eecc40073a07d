// One answer of a loader as the thin modules see it: pointer, shape, element type and lease of each part.
//
// The types come from the generated header of the one cxx bridge (rust/zenith-ffi/src/bridge.rs); this file adds what
// a C callback needs. A view is used by one thread; a lease may be released on any.
#pragma once

#include "engine.h"

namespace zenith::bridge {

// Passes a lease through a void* and back. Each pointer must be given to `lease_release` exactly once.
inline void* lease_into_context(rust::Box<Lease> lease) { return lease.into_raw(); }
inline void lease_release(void* context) { rust::Box<Lease>::from_raw(static_cast<Lease*>(context)); }

}  // namespace zenith::bridge
