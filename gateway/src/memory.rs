//! One heap for all threads.
//!
//! glibc gives each thread a heap of its own, and what one thread allocates and another frees (every
//! reading on its way from a bus to the journal) leaves holes in all of them. A gateway allocates
//! little enough for one to serve all, and is smaller by a third.

/// To be called before there is a second thread; does nothing with another C library.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "mallopt has no safe binding"))]
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes two integers and touches nothing of ours; a refusal changes nothing.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}
