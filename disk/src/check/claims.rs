//! Who claims which bytes of a file: a bit for each place of a unit, and a list of the few claims that are no whole
//! place. Memory follows the length of the file: 2 MiB for 1 TiB of 64 KiB units.

use crate::{Error, Result};
use std::ops::Range;

/// Places of units that are kept account of: 128 MiB of bits, 64 TiB of 64 KiB units.
const MOST_PLACES: u64 = 1 << 30;
/// Claims that are no whole place, such as tables between units: far more than any writer makes.
const MOST_ODD: usize = 1 << 19;

/// The claims on one file, from the first byte of data on.
pub(super) struct Claims {
    base: u64,
    stride: u64,
    /// Length of the file.
    end: u64,
    places: u64,
    bits: Vec<u64>,
    odd: Vec<Odd>,
}

/// A claim that is no whole place.
struct Odd {
    start: u64,
    end: u64,
    /// Where it is made.
    by: u64,
}

/// Room that nobody claims.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Free {
    /// The first such byte before the last claim, and how many there are.
    pub(super) between: Option<(u64, u64)>,
    /// What lies behind the last claim.
    pub(super) tail: Range<u64>,
}

impl Claims {
    /// # Errors
    /// `Limit` for a file of more places than are kept account of.
    pub(super) fn new(base: u64, stride: u64, end: u64) -> Result<Claims> {
        let places = end.saturating_sub(base).div_ceil(stride.max(1));
        if places > MOST_PLACES {
            return Err(Error::limit(format!(
                "a file with room for {places} units is more than can be checked"
            )));
        }
        Ok(Claims {
            base,
            stride: stride.max(1),
            end,
            places,
            bits: vec![0; places.div_ceil(64) as usize],
            odd: Vec::new(),
        })
    }

    /// Claims a range that starts in the file; what is named at byte `by`. False if all of it was claimed before as a
    /// whole place; other collisions come out in [`overlaps`](Self::overlaps).
    ///
    /// # Errors
    /// `Limit` for too many ranges that are no places.
    pub(super) fn claim(&mut self, range: Range<u64>, by: u64) -> Result<bool> {
        if let Some(place) = self.place(&range) {
            let taken = self.is_set(place);
            self.set(place);
            return Ok(!taken);
        }
        let start = range.start.max(self.base);
        if start >= range.end {
            return Ok(true);
        }
        if self.odd.len() >= MOST_ODD {
            return Err(Error::limit("too many units that lie between places"));
        }
        let end = range.end;
        self.odd.push(Odd { start, end, by });
        Ok(true)
    }

    /// Whether the range is a whole place that nobody claimed.
    pub(super) fn is_free(&self, range: &Range<u64>) -> bool {
        self.place(range).is_some_and(|place| !self.is_set(place))
    }

    /// Shows, for each claim that is no whole place, that it collides with another: where it is made, and on what byte.
    pub(super) fn overlaps(&mut self, see: &mut dyn FnMut(u64, u64)) {
        self.odd.sort_unstable_by_key(|odd| odd.start);
        let mut claimed_until = 0;
        for odd in &self.odd {
            let touched = self.touched(odd);
            let taken = touched.clone().find(|place| self.is_set(*place));
            if odd.start < claimed_until || taken.is_some() {
                see(odd.by, odd.start);
            }
            claimed_until = claimed_until.max(odd.end);
        }
    }

    /// What nobody claims. The last step: places that a claim only touches count as claimed from here on.
    pub(super) fn free(mut self) -> Free {
        for odd in std::mem::take(&mut self.odd) {
            for place in self.touched(&odd) {
                self.set(place);
            }
        }
        let last = self.bits.iter().rposition(|word| *word != 0);
        let behind = last.map_or(0, |word| {
            let used = 64 - self.bits[word].leading_zeros();
            word as u64 * 64 + u64::from(used)
        });
        let mut first = None;
        let mut count = 0;
        for (n, word) in self.bits.iter().enumerate() {
            let start = n as u64 * 64;
            if start >= behind || *word == u64::MAX {
                continue;
            }
            let here = (behind - start).min(64);
            let free = !*word & (u64::MAX >> (64 - here));
            if free != 0 {
                first.get_or_insert(start + u64::from(free.trailing_zeros()));
                count += u64::from(free.count_ones());
            }
        }
        let tail = self.base.saturating_add(behind * self.stride);
        Free {
            between: first.map(|place| (self.base + place * self.stride, count * self.stride)),
            tail: tail.min(self.end)..self.end,
        }
    }

    fn place(&self, range: &Range<u64>) -> Option<u64> {
        let from = range.start.checked_sub(self.base)?;
        let whole = from % self.stride == 0 && range.end - range.start == self.stride;
        Some(from / self.stride).filter(|place| whole && *place < self.places)
    }

    fn touched(&self, odd: &Odd) -> Range<u64> {
        let first = (odd.start - self.base) / self.stride;
        let behind = (odd.end - self.base).div_ceil(self.stride);
        first.min(self.places)..behind.min(self.places)
    }

    fn is_set(&self, place: u64) -> bool {
        let word = self.bits.get((place / 64) as usize);
        word.is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    fn set(&mut self, place: u64) {
        if let Some(word) = self.bits.get_mut((place / 64) as usize) {
            *word |= 1 << (place % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn collisions(claims: &mut Claims) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        claims.overlaps(&mut |by, at| found.push((by, at)));
        found
    }

    #[test]
    fn a_place_is_claimed_once_and_what_nobody_claims_is_free() {
        let mut claims = Claims::new(100, 10, 1995).unwrap();
        assert!(claims.claim(100..110, 1).unwrap());
        assert!(claims.claim(900..910, 2).unwrap());
        assert!(!claims.claim(900..910, 3).unwrap());
        assert!(!claims.is_free(&(900..910)) && claims.is_free(&(910..920)));
        assert!(collisions(&mut claims).is_empty());
        let free = claims.free();
        assert_eq!(free.between, Some((110, 790)));
        assert_eq!(free.tail, 910..1995);
    }

    #[test]
    fn the_last_place_may_be_cut_short_and_an_empty_file_has_none() {
        let mut claims = Claims::new(100, 10, 115).unwrap();
        assert!(claims.claim(110..120, 1).unwrap());
        assert_eq!(claims.free().tail, 115..115);
        assert_eq!(Claims::new(100, 10, 50).unwrap().free().tail, 50..50);
        assert!(Claims::new(0, 1, u64::MAX).is_err());
    }

    #[test]
    fn claims_between_places_collide_with_places_and_with_each_other() {
        let mut claims = Claims::new(0, 10, 1000).unwrap();
        claims.claim(20..30, 1).unwrap();
        // Side by side in one place: no collision.
        claims.claim(50..52, 2).unwrap();
        claims.claim(52..54, 3).unwrap();
        assert!(collisions(&mut claims).is_empty());
        claims.claim(25..35, 4).unwrap();
        claims.claim(53..55, 5).unwrap();
        assert_eq!(collisions(&mut claims), [(4, 25), (5, 53)]);
        let free = claims.free();
        assert_eq!((free.between, free.tail), (Some((0, 30)), 60..1000));
    }
}
