//! How far to trust a field.

use serde::{Deserialize, Serialize};

/// Where a figure comes from, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The vendor's own sheet or page.
    Vendor,
    /// The text of a rule itself.
    Primary,
    /// A vendor's figure as somebody else repeats it.
    VendorViaThirdParty,
    /// A keynote or a launch, before the part could be measured.
    VendorAnnouncement,
    /// Somebody measured it.
    Measured,
    /// A paper.
    Paper,
    /// A law firm's summary of a rule.
    LawFirm,
    /// A table that somebody keeps.
    ThirdParty,
    /// Computed from other fields.
    Derived,
    /// Newspapers.
    Press,
    /// Sources contradict each other.
    Disputed,
    /// Forums, leaks, single reports.
    Weak,
    /// From memory; no document was found yet.
    Unverified,
}

impl Confidence {
    /// The name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Vendor => "vendor",
            Confidence::Primary => "primary",
            Confidence::VendorViaThirdParty => "vendor-via-third-party",
            Confidence::VendorAnnouncement => "vendor-announcement",
            Confidence::Measured => "measured",
            Confidence::Paper => "paper",
            Confidence::LawFirm => "law-firm",
            Confidence::ThirdParty => "third-party",
            Confidence::Derived => "derived",
            Confidence::Press => "press",
            Confidence::Disputed => "disputed",
            Confidence::Weak => "weak",
            Confidence::Unverified => "unverified",
        }
    }
}
