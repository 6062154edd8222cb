//! Which machine items an item of a device feeds. Part of the plan.

use andon_adapters::current_loop::Span;
use andon_engine::plan::ItemIndex;

/// The machine items that an item of a device feeds. Almost always it is one, and a shop has tens of
/// thousands: that one has no list.
#[derive(Clone, Debug)]
pub enum Fed {
    /// One, as it is.
    One(ItemIndex),
    /// Any other number, or through a loop.
    Many(Box<FedMany>),
}

/// Several machine items, or some through a loop.
#[derive(Clone, Debug, Default)]
pub struct FedMany {
    /// Those that it feeds as it is.
    pub direct: Vec<ItemIndex>,
    /// Those that it feeds as the quantity that a 4–20 mA loop stands for.
    pub loops: Vec<(ItemIndex, Span)>,
}

impl Default for Fed {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl Fed {
    /// The items that are fed as it is.
    pub fn direct(&self) -> &[ItemIndex] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(many) => &many.direct,
        }
    }

    /// The items that are fed as the quantity that a loop stands for.
    pub fn loops(&self) -> &[(ItemIndex, Span)] {
        match self {
            Self::One(_) => &[],
            Self::Many(many) => &many.loops,
        }
    }

    /// All items that are fed.
    pub fn all(&self) -> impl Iterator<Item = ItemIndex> + Clone {
        self.direct().iter().copied().chain(self.loops().iter().map(|(item, _)| *item))
    }

    /// Adds an item: as the quantity of a loop where `span` says what its ends mean.
    pub fn add(&mut self, item: ItemIndex, span: Option<Span>) {
        if span.is_none() && self.all().next().is_none() {
            *self = Self::One(item);
            return;
        }
        if let Self::One(one) = *self {
            *self = Self::Many(Box::new(FedMany { direct: vec![one], loops: Vec::new() }));
        }
        if let Self::Many(many) = self {
            match span {
                None => many.direct.push(item),
                Some(span) => many.loops.push((item, span)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_there_in_order_whether_it_is_one_or_more() {
        let span = Span { at_4ma: 0.0, at_20ma: 10.0 };
        let mut fed = Fed::default();
        assert_eq!(fed.all().count(), 0);
        fed.add(ItemIndex(7), None);
        assert_eq!((fed.direct(), fed.loops().len()), (&[ItemIndex(7)][..], 0));
        fed.add(ItemIndex(9), Some(span));
        fed.add(ItemIndex(8), None);
        assert_eq!(fed.direct(), [ItemIndex(7), ItemIndex(8)]);
        assert_eq!(fed.loops(), [(ItemIndex(9), span)]);
        let mut only = Fed::default();
        only.add(ItemIndex(1), Some(span));
        only.add(ItemIndex(2), None);
        assert_eq!(only.all().collect::<Vec<_>>(), [ItemIndex(2), ItemIndex(1)]);
    }
}
