//! Device profiles. Placeholder.

/// A device.
#[derive(Clone, Debug)]
pub struct Profile;
