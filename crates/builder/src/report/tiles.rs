//! Lays out rectangles whose areas are in proportion to weights: a squarified treemap (Bruls, Huizing, van Wijk: "Squarified
//! Treemaps", 2000).

use serde::Serialize;

/// Percent of the box that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tile {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// One tile a weight, in the order of the weights, which have to be positive and the largest first. `aspect`: how much wider than high
/// the box is shown.
pub fn lay_out(weights: &[u64], aspect: f64) -> Vec<Tile> {
    let total: f64 = weights.iter().map(|weight| *weight as f64).sum();
    let area = |weight: u64| weight as f64 / total * aspect;
    let mut tiles = Vec::new();
    let (mut left, mut top, mut width, mut height) = (0.0, 0.0, aspect, 1.0);
    let mut rest = weights;
    while !rest.is_empty() {
        let side: f64 = f64::min(width, height);
        // A row takes weights as long as its tiles come nearer to squares.
        let mut count = 1;
        while count < rest.len() && worst(&rest[..count + 1], area, side) <= worst(&rest[..count], area, side) {
            count += 1;
        }
        let (row, others) = rest.split_at(count);
        let row_area: f64 = row.iter().map(|weight| area(*weight)).sum();
        let depth = row_area / side;
        let mut along = 0.0;
        for weight in row {
            let length = area(*weight) / depth;
            tiles.push(match width >= height {
                true => percent([left, top + along, depth, length], aspect),
                false => percent([left + along, top, length, depth], aspect),
            });
            along += length;
        }
        match width >= height {
            true => (left, width) = (left + depth, width - depth),
            false => (top, height) = (top + depth, height - depth),
        }
        rest = others;
    }
    tiles
}

/// How far the least square tile of a row is from a square.
fn worst(row: &[u64], area: impl Fn(u64) -> f64, side: f64) -> f64 {
    let areas = row.iter().map(|weight| area(*weight));
    let sum: f64 = areas.clone().sum();
    let depth = sum / side;
    areas.map(|area| f64::max(depth * depth / area, area / (depth * depth))).fold(1.0, f64::max)
}

/// Three digits are enough for any screen, and the same on all machines.
fn percent([left, top, width, height]: [f64; 4], aspect: f64) -> Tile {
    let round = |part: f64| (part * 100_000.0).round() / 1000.0;
    Tile { left: round(left / aspect), top: round(top), width: round(width / aspect), height: round(height) }
}
