//! The databases of the reference backend.

pub(crate) const SHARED: &str = "plimsoll_shared";
pub(crate) const HOSPITALITY: &str = "plimsoll_hospitality";
pub(crate) const FINANCE: &str = "plimsoll_finance";
pub(crate) const EVENT_STORE: &str = "plimsoll_event_store";
pub(crate) const READ_MODELS: &str = "plimsoll_read_models";
pub(crate) const GUEST_CHECKIN: &str = "plimsoll_guest_checkin";
pub(crate) const HEALTH_CHECK: &str = "plimsoll_health_check";

/// Every one of them.
pub(crate) const ALL: [&str; 7] =
    [SHARED, HOSPITALITY, FINANCE, EVENT_STORE, READ_MODELS, GUEST_CHECKIN, HEALTH_CHECK];
