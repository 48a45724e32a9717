//! Pictures of digits as people take them, drawn for the tests: strokes of real digits, with a pen of some kind, on paper
//! of some kind, in falling light and with noise.

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma};

/// What is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pen {
    /// Blue or black, thin.
    Ballpoint,
    /// Grey, thin, with gaps of grain.
    Pencil,
    /// Black, as broad as the digit has it.
    Felt,
}

/// What is written on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paper {
    /// Nothing but paper.
    Plain,
    /// Lines, a little tilted, with this contrast in per cent of the pen's.
    Ruled(u32),
    /// The same in both directions.
    Squared(u32),
    /// Plain, seen whole on a dark table, turned by so many degrees.
    Table(i32),
}

/// Numbers that follow from a seed.
pub struct Random(pub u64);

impl Random {
    /// The next in 0 to 1.
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    /// The next in this range.
    pub fn between(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * self.next()
    }
}

/// How much of each pixel is covered by ink, 0 to 1.
pub struct Strokes {
    width: usize,
    cover: Vec<f32>,
}

impl Strokes {
    /// No ink yet.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, cover: vec![0.0; width * height] }
    }

    /// Writes a digit of 28×28, bright on black, with its 20×20 in a square of this size at (left, top).
    pub fn write(&mut self, digit: &[u8], [left, top]: [f32; 2], size: f32, pen: Pen) {
        let side = (size * 1.4).round() as u32;
        let image = GrayImage::from_raw(28, 28, digit.to_vec()).expect("28x28");
        let large = imageops::resize(&image, side, side, FilterType::CatmullRom);
        let mut is_ink: Vec<bool> = large.pixels().map(|pixel| pixel[0] >= 120).collect();
        let side = side as usize;
        let radius = match pen {
            Pen::Felt => 0.8,
            Pen::Ballpoint => 1.7,
            Pen::Pencil => 1.5,
        };
        if pen != Pen::Felt {
            thin(&mut is_ink, side);
        }
        let (left, top) = (left - 0.2 * size, top - 0.2 * size);
        for at in (0..is_ink.len()).filter(|&at| is_ink[at]) {
            self.dot([left + (at % side) as f32, top + (at / side) as f32], radius);
        }
    }

    /// A round spot of ink.
    pub fn dot(&mut self, [x, y]: [f32; 2], radius: f32) {
        let reach = radius.ceil() as i32 + 1;
        for dy in -reach..=reach {
            for dx in -reach..=reach {
                let (at_x, at_y) = (x.round() as i32 + dx, y.round() as i32 + dy);
                let height = (self.cover.len() / self.width) as i32;
                if at_x < 0 || at_y < 0 || at_x >= self.width as i32 || at_y >= height {
                    continue;
                }
                let distance = (at_x as f32 - x).hypot(at_y as f32 - y);
                let cover = &mut self.cover[at_y as usize * self.width + at_x as usize];
                *cover = cover.max((radius + 0.5 - distance).clamp(0.0, 1.0));
            }
        }
    }

    /// A straight stroke.
    pub fn line(&mut self, from: [f32; 2], to: [f32; 2], radius: f32) {
        let steps = ((to[0] - from[0]).hypot(to[1] - from[1]) * 2.0).ceil().max(1.0) as u32;
        for step in 0..=steps {
            let share = step as f32 / steps as f32;
            self.dot([0, 1].map(|along| from[along] + (to[along] - from[along]) * share), radius);
        }
    }

    /// A photo of these strokes on this paper.
    pub fn photo(&self, pen: Pen, paper: Paper, random: &mut Random) -> GrayImage {
        let (width, height) = (self.width, self.cover.len() / self.width);
        let dark = match pen {
            Pen::Ballpoint => random.between(100.0, 140.0),
            Pen::Pencil => random.between(70.0, 100.0),
            Pen::Felt => random.between(140.0, 190.0),
        };
        let light = [random.between(195.0, 230.0), random.between(-40.0, 40.0), random.between(-30.0, 30.0)];
        let (tilt, first) = (random.between(-0.025, 0.025), random.between(0.0, 30.0));
        let (every, breadth) = (random.between(34.0, 44.0), random.between(0.8, 1.2));
        let turn = if let Paper::Table(degrees) = paper { (degrees as f32).to_radians() } else { 0.0 };
        let table = [random.between(50.0, 85.0), random.between(0.0, std::f32::consts::TAU)];
        let mut picture = GrayImage::from_fn(width as u32, height as u32, |x, y| {
            let (mut x, mut y) = (x as f32, y as f32);
            let (share_x, share_y) = (x / width as f32, y / height as f32);
            let mut value = light[0] + light[1] * (share_x - 0.5) + light[2] * (share_y - 0.5);
            let mut on_paper = 1.0;
            if let Paper::Table(_) = paper {
                // The paper is the middle of the picture, 78 hundredths of it, and what is written is smaller.
                let (dx, dy) = (x - width as f32 / 2.0, y - height as f32 / 2.0);
                x = (dx * turn.cos() + dy * turn.sin()) / 0.78 + width as f32 / 2.0;
                y = (dy * turn.cos() - dx * turn.sin()) / 0.78 + height as f32 / 2.0;
                let inside = x.min(y).min(width as f32 - x).min(height as f32 - y);
                on_paper = (inside + 0.5).clamp(0.0, 1.0);
            }
            let line = |along: f32, across: f32| {
                let distance = (across + tilt * along - first).rem_euclid(every);
                (breadth + 0.5 - distance.min(every - distance)).clamp(0.0, 1.0)
            };
            let lines = match paper {
                Paper::Plain | Paper::Table(_) => 0.0,
                Paper::Ruled(share) => line(x, y) * share as f32 / 100.0,
                Paper::Squared(share) => line(x, y).max(line(y, -x)) * share as f32 / 100.0,
            };
            let mut cover = self.sample(x, y);
            if pen == Pen::Pencil {
                cover *= random.between(0.55, 1.0);
            }
            value -= dark * cover.max(lines);
            let wood = table[0] + 6.0 * (y * 0.05 + table[1]).sin();
            value = on_paper * value + (1.0 - on_paper) * wood;
            let noise = random.next() + random.next() + random.next() - 1.5;
            Luma([(value + 7.0 * noise).clamp(0.0, 255.0) as u8])
        });
        picture = imageops::blur(&picture, 0.6);
        picture
    }

    fn sample(&self, x: f32, y: f32) -> f32 {
        let height = self.cover.len() / self.width;
        let at = |x: f32, y: f32| {
            let (x, y) = (x.clamp(0.0, self.width as f32 - 1.0), y.clamp(0.0, height as f32 - 1.0));
            self.cover[y as usize * self.width + x as usize]
        };
        let (u, v, x, y) = (x - x.floor(), y - y.floor(), x.floor(), y.floor());
        let above = at(x, y) * (1.0 - u) + at(x + 1.0, y) * u;
        let below = at(x, y + 1.0) * (1.0 - u) + at(x + 1.0, y + 1.0) * u;
        above * (1.0 - v) + below * v
    }
}

/// Thins ink to lines of one pixel, by T. Y. Zhang and C. Y. Suen (1984).
fn thin(is_ink: &mut [bool], side: usize) {
    loop {
        let mut changed = false;
        for odd in [false, true] {
            let mut removed = Vec::new();
            for y in 1..side - 1 {
                for x in 1..side - 1 {
                    if !is_ink[y * side + x] {
                        continue;
                    }
                    // From above, clockwise.
                    let around = [(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)];
                    let p = around
                        .map(|(dx, dy): (i32, i32)| is_ink[(y as i32 + dy) as usize * side + (x as i32 + dx) as usize]);
                    let count = p.iter().filter(|&&is_ink| is_ink).count();
                    let changes = (0..8).filter(|&at| !p[at] && p[(at + 1) % 8]).count();
                    let (first, second) = match odd {
                        false => (p[0] && p[2] && p[4], p[2] && p[4] && p[6]),
                        true => (p[0] && p[2] && p[6], p[0] && p[4] && p[6]),
                    };
                    if (2..=6).contains(&count) && changes == 1 && !first && !second {
                        removed.push(y * side + x);
                    }
                }
            }
            changed |= !removed.is_empty();
            removed.into_iter().for_each(|at| is_ink[at] = false);
        }
        if !changed {
            return;
        }
    }
}
