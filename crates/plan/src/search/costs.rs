//! Energy and money.

use crate::chips::{Chip, Price};

/// Hours in which a bought chip pays for itself: four years, the middle of what clouds write hardware off in.
const LIFE_HOURS: f64 = 4.0 * 8766.0;

/// What chips and power cost. All are assumptions of whoever asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Price of a chip with its share of the machine, USD; none: as the chip's file says, if it does.
    pub price_usd: Option<f64>,
    /// Rent of a chip, USD an hour, power included; takes the place of price and power.
    pub rent_usd_per_hour: Option<f64>,
    /// Electricity, USD a kWh.
    pub electricity_usd_per_kwh: f64,
    /// Share of the thermal design power that is drawn at work.
    pub duty: f64,
    /// Power of the whole room over that of the chips: cooling, hosts, networks.
    pub overhead: f64,
    /// Hours in which a bought chip pays for itself.
    pub life_hours: f64,
}

impl Default for Costs {
    /// 0.10 USD a kWh, 80 % of TDP, 1.3 for everything beside the chips, four years.
    fn default() -> Costs {
        Costs {
            price_usd: None,
            rent_usd_per_hour: None,
            electricity_usd_per_kwh: 0.10,
            duty: 0.8,
            overhead: 1.3,
            life_hours: LIFE_HOURS,
        }
    }
}

/// What some chips take for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bill {
    /// Chips times hours.
    pub chip_hours: f64,
    /// Energy, kWh; none where the chip's power is unknown.
    pub kwh: Option<f64>,
    /// Money, USD; none where neither rent nor price is known.
    pub usd: Option<f64>,
}

impl Costs {
    /// kW that a chip draws with its share of everything else.
    pub fn kilowatts(&self, chip: &Chip) -> Option<f64> {
        chip.tdp_w.map(|w| w / 1000.0 * self.duty * self.overhead)
    }

    /// USD an hour of one chip: rent, or price over its life and power.
    pub fn hour(&self, chip: &Chip) -> Option<f64> {
        if let Some(rent) = self.rent_usd_per_hour {
            return Some(rent);
        }
        let price = self.price_usd.or(chip.price_usd.as_ref().and_then(Price::typical))?;
        let power = self.kilowatts(chip).unwrap_or(0.0) * self.electricity_usd_per_kwh;
        Some(price / self.life_hours + power)
    }

    /// What `chips` chips take for so many seconds.
    pub fn bill(&self, chip: &Chip, chips: f64, seconds: f64) -> Bill {
        let chip_hours = chips * seconds / 3600.0;
        Bill {
            chip_hours,
            kwh: self.kilowatts(chip).map(|kw| kw * chip_hours),
            usd: self.hour(chip).map(|usd| usd * chip_hours),
        }
    }
}
