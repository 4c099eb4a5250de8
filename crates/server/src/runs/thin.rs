//! A number that changes from step to step, kept in a bounded number of buckets however many steps there are.

use serde_json::{Value, json};

/// Buckets at most. Each gives two points and a mean.
const MOST: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    step: u64,
    value: f32,
}

impl Point {
    fn json(self) -> Value {
        json!([self.step, self.value])
    }
}

/// The steps from `key * width` to `key * width + width - 1` that have a value.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    key: u64,
    first: u64,
    last: u64,
    least: Point,
    most: Point,
    sum: f64,
    count: f64,
}

impl Bucket {
    /// Takes in a bucket of later steps.
    fn join(&mut self, later: &Bucket) {
        self.last = later.last;
        if later.least.value < self.least.value {
            self.least = later.least;
        }
        if later.most.value > self.most.value {
            self.most = later.most;
        }
        self.sum += later.sum;
        self.count += later.count;
    }
}

/// The series. When it has too many buckets, each two neighbours become one of twice the width: the first and the last
/// point of all and the least and the greatest of every bucket stay.
#[derive(Clone, Debug)]
pub(super) struct Thin {
    width: u64,
    buckets: Vec<Bucket>,
    first: Option<Point>,
    last: Option<Point>,
}

impl Default for Thin {
    fn default() -> Thin {
        Thin { width: 1, buckets: Vec::new(), first: None, last: None }
    }
}

impl Thin {
    /// Adds the value of a step after all others. What is no number, or not after them, changes nothing.
    pub(super) fn add(&mut self, step: u64, value: f32) {
        if !value.is_finite() || self.last.is_some_and(|last| step <= last.step) {
            return;
        }
        let point = Point { step, value };
        self.first.get_or_insert(point);
        self.last = Some(point);
        let key = step / self.width;
        let (sum, count) = (f64::from(value), 1.0);
        let bucket = Bucket { key, first: step, last: step, least: point, most: point, sum, count };
        match self.buckets.last_mut() {
            Some(latest) if latest.key == key => latest.join(&bucket),
            _ => self.buckets.push(bucket),
        }
        while self.buckets.len() > MOST {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.width = self.width.saturating_mul(2);
        self.buckets.iter_mut().for_each(|bucket| bucket.key /= 2);
        self.buckets.dedup_by(|later, earlier| {
            let same = later.key == earlier.key;
            if same {
                earlier.join(later);
            }
            same
        });
    }

    /// The value of the last step that has one.
    pub(super) fn last(&self) -> Option<f32> {
        self.last.map(|last| last.value)
    }

    /// What there is, of steps above `after` where that is given: `points` are `[step, value]` as they were, `means` are
    /// `[first step, last step, mean]` of each bucket, and `width` is how many steps a bucket spans.
    pub(super) fn json(&self, after: Option<u64>) -> Value {
        let new = |step: u64| after.is_none_or(|after| step > after);
        let mut points = Vec::with_capacity(2 * self.buckets.len() + 2);
        let mut means = Vec::with_capacity(self.buckets.len());
        points.extend(self.first);
        for bucket in self.buckets.iter().filter(|bucket| new(bucket.last)) {
            let (least, most) = (bucket.least, bucket.most);
            points.extend(if least.step < most.step { [least, most] } else { [most, least] });
            means.push(json!([bucket.first, bucket.last, bucket.sum / bucket.count]));
        }
        points.extend(self.last);
        points.dedup_by_key(|point| point.step);
        let points = points.into_iter().filter(|point| new(point.step)).map(Point::json);
        json!({"width": self.width, "points": points.collect::<Vec<_>>(), "means": means})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(series: &Value) -> Vec<(u64, f32)> {
        let points = series["points"].as_array().unwrap();
        points.iter().map(|p| (p[0].as_u64().unwrap(), p[1].as_f64().unwrap() as f32)).collect()
    }

    #[test]
    fn few_steps_stay_as_they_are() {
        let mut thin = Thin::default();
        (1..=5u64).for_each(|step| thin.add(step, step as f32 / 2.0));
        let expected = json!({
            "width": 1,
            "points": [[1, 0.5], [2, 1.0], [3, 1.5], [4, 2.0], [5, 2.5]],
            "means": [[1, 1, 0.5], [2, 2, 1.0], [3, 3, 1.5], [4, 4, 2.0], [5, 5, 2.5]],
        });
        assert_eq!(thin.json(None), expected);
        let expected = json!({"width": 1, "points": [[5, 2.5]], "means": [[5, 5, 2.5]]});
        assert_eq!(thin.json(Some(4)), expected);
        assert_eq!(thin.json(Some(5)), json!({"width": 1, "points": [], "means": []}));
        assert_eq!(Thin::default().json(None), json!({"width": 1, "points": [], "means": []}));
    }

    #[test]
    fn what_is_no_number_or_out_of_order_is_left_out() {
        let mut thin = Thin::default();
        for (step, value) in [(3, 1.0), (3, 9.0), (2, 9.0), (4, f32::NAN), (5, f32::INFINITY), (6, 2.0)] {
            thin.add(step, value);
        }
        assert_eq!(points(&thin.json(None)), [(3, 1.0), (6, 2.0)]);
        assert_eq!(thin.last(), Some(2.0));
    }

    #[test]
    fn steps_far_apart_take_no_more_room() {
        let mut thin = Thin::default();
        let mut steps: Vec<u64> = (0..63).map(|shift| 1 << shift).chain(1 << 63..(1 << 63) + 1000).collect();
        steps.push(u64::MAX);
        steps.iter().for_each(|step| thin.add(*step, 1.0));
        assert!(thin.buckets.len() <= MOST);
        let points = points(&thin.json(None));
        assert_eq!((points[0].0, points[points.len() - 1].0), (1, u64::MAX));
    }

    proptest! {
        #[test]
        fn bounds_ends_and_extremes_hold(values in prop::collection::vec(-100i32..100, 1..3000), gap in 1u64..5) {
            let all: Vec<(u64, f32)> = values.iter().zip(1..).map(|(v, n)| (n * gap, *v as f32)).collect();
            let mut thin = Thin::default();
            all.iter().for_each(|(step, value)| thin.add(*step, *value));
            let series = thin.json(None);
            let points = points(&series);
            prop_assert!(points.len() <= 2 * MOST + 2);
            prop_assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert_eq!(points.first(), all.first());
            prop_assert_eq!(points.last(), all.last());
            prop_assert!(points.iter().all(|point| all.contains(point)));
            let mut covered = 0;
            for mean in series["means"].as_array().unwrap() {
                let (first, last) = (mean[0].as_u64().unwrap(), mean[1].as_u64().unwrap());
                let within = |list: &[(u64, f32)]| -> Vec<f32> {
                    list.iter().filter(|(step, _)| (first..=last).contains(step)).map(|p| p.1).collect()
                };
                let (raw, kept) = (within(&all), within(&points));
                covered += raw.len();
                let ends = |list: &[f32]| {
                    let fold = |f: fn(f32, f32) -> f32| list.iter().copied().reduce(f).unwrap();
                    (fold(f32::min), fold(f32::max))
                };
                prop_assert_eq!(ends(&raw), ends(&kept));
                let exact = raw.iter().map(|v| f64::from(*v)).sum::<f64>() / raw.len() as f64;
                prop_assert!((mean[2].as_f64().unwrap() - exact).abs() < 1e-9);
            }
            prop_assert_eq!(covered, all.len(), "every step is in one bucket");
        }
    }
}
