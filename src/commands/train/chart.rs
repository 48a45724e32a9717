//! A small chart of the loss, for the terminal.

/// Columns and lines of the chart.
const COLUMNS: usize = 60;
pub const LINES: usize = 4;
/// Heights of a line's blocks, from an eighth to a whole.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The losses of a run so far, as means over equally many steps.
#[derive(Debug, Default)]
pub struct Chart {
    /// Sums of the finite losses of `per` steps each, and their numbers; the last may have fewer steps.
    bins: Vec<(f64, usize)>,
    /// Steps in a bin.
    per: usize,
    /// Steps in the last bin.
    last: usize,
}

impl Chart {
    /// Adds the loss of a step. When the chart is full, pairs of bins are joined.
    pub fn add(&mut self, loss: f32) {
        self.per = self.per.max(1);
        if self.last == self.per || self.bins.is_empty() {
            if self.bins.len() == COLUMNS {
                self.bins = self.bins.chunks(2).map(|pair| (pair[0].0 + pair[1].0, pair[0].1 + pair[1].1)).collect();
                self.per *= 2;
            }
            self.bins.push((0.0, 0));
            self.last = 0;
        }
        self.last += 1;
        if let (Some(bin), true) = (self.bins.last_mut(), loss.is_finite()) {
            *bin = (bin.0 + f64::from(loss), bin.1 + 1);
        }
    }

    /// Formats line `line` of the chart, from the top, with the value at its top or, of the last one, at its foot.
    pub fn line(&self, line: usize) -> String {
        let mean = |&(sum, count): &(f64, usize)| sum / count as f64;
        let finite = || self.bins.iter().map(mean).filter(|mean| mean.is_finite());
        let (low, high) =
            finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), mean| (low.min(mean), high.max(mean)));
        if self.bins.len() < 2 || low >= high {
            return String::new();
        }
        let eighths = |bin| match mean(bin) {
            mean if mean.is_finite() => 1 + ((mean - low) / (high - low) * (8 * LINES - 1) as f64).round() as usize,
            _ => 0,
        };
        let below = 8 * (LINES - 1 - line);
        let block = |bin| match eighths(bin).saturating_sub(below) {
            0 => ' ',
            eighths => BLOCKS[eighths.min(8) - 1],
        };
        let label = match line {
            0 => format!("{high:.3}"),
            _ if line == LINES - 1 => format!("{low:.3}"),
            _ => String::new(),
        };
        format!("{label:>9} {}", self.bins.iter().map(block).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_falls_with_the_loss_and_stays_as_wide() {
        let mut chart = Chart::default();
        assert_eq!(chart.line(0), "");
        for loss in [3.2, 2.2, 1.2, f32::NAN, 0.1] {
            chart.add(loss);
        }
        assert_eq!(chart.line(0), "    3.200 █    ");
        assert_eq!(chart.line(1), "          █▆   ");
        assert_eq!(chart.line(2), "          ██▄  ");
        assert_eq!(chart.line(3), "    0.100 ███ ▁");
        for step in 0..10_000 {
            chart.add(1.0 / (1.0 + step as f32));
            assert!(chart.bins.len() <= COLUMNS);
        }
        let first = chart.line(3);
        assert!((40..=70).contains(&first.chars().count()) && first.ends_with('▁'), "{first}");
    }
}
