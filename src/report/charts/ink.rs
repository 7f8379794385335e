//! The roles that something drawn can have. A role, not a colour: the page's style sheet gives each its colour,
//! width and dashes.

use plotters::style::RGBColor;

/// The role of something drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Grid,
    Baseline,
    Tick,
    WarmUp,
    Incident,
    Limit,
    Offered,
    Achieved,
    NotOk,
    P50,
    P95,
    P99,
    CacheHits,
    ReplicaShare,
    ProjectionLag,
    ReplicationLag,
    Response,
    Service,
    Cpu1,
    Cpu2,
    Cpu3,
    Cpu4,
    Cpu5,
    Cpu6,
}

impl Ink {
    pub(super) const ALL: [Self; 24] = [
        Self::Grid,
        Self::Baseline,
        Self::Tick,
        Self::WarmUp,
        Self::Incident,
        Self::Limit,
        Self::Offered,
        Self::Achieved,
        Self::NotOk,
        Self::P50,
        Self::P95,
        Self::P99,
        Self::CacheHits,
        Self::ReplicaShare,
        Self::ProjectionLag,
        Self::ReplicationLag,
        Self::Response,
        Self::Service,
        Self::Cpu1,
        Self::Cpu2,
        Self::Cpu3,
        Self::Cpu4,
        Self::Cpu5,
        Self::Cpu6,
    ];
    /// For the groups of processes, the busiest first; more than these begin again.
    pub(super) const CPU: [Self; 6] =
        [Self::Cpu1, Self::Cpu2, Self::Cpu3, Self::Cpu4, Self::Cpu5, Self::Cpu6];

    /// Class in the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Grid => "grid",
            Self::Baseline => "baseline",
            Self::Tick => "tick",
            Self::WarmUp => "warm-up",
            Self::Incident => "incident",
            Self::Limit => "limit",
            Self::Offered => "offered",
            Self::Achieved => "achieved",
            Self::NotOk => "not-ok",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::CacheHits => "cache-hits",
            Self::ReplicaShare => "replica-share",
            Self::ProjectionLag => "projection-lag",
            Self::ReplicationLag => "replication-lag",
            Self::Response => "response",
            Self::Service => "service",
            Self::Cpu1 => "cpu-1",
            Self::Cpu2 => "cpu-2",
            Self::Cpu3 => "cpu-3",
            Self::Cpu4 => "cpu-4",
            Self::Cpu5 => "cpu-5",
            Self::Cpu6 => "cpu-6",
        }
    }

    /// The colour that stands for the role between plotters and the theme; nobody sees it.
    pub(super) fn placeholder(self) -> RGBColor {
        RGBColor(0xFA, 0x00, self as u8)
    }

    /// The same as plotters writes it.
    pub(super) fn placeholder_text(self) -> String {
        let RGBColor(r, g, b) = self.placeholder();
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}
