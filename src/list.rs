//! An intrusive doubly linked list: the nodes are the waiting things themselves, so joining or
//! leaving a queue allocates nothing and removal from the middle is O(1).
//!
//! ```text
//!   List          first           second          last
//!   +------+      +------+        +------+        +------+
//!   | head |----->| next |------->| next |------->| next |--> null
//!   +------+   +--| prev |<-------| prev |<-------| prev |
//!              |  +------+        +------+        +------+
//!              |                                    ^
//!              +------------------------------------+
//!
//!   unlinked    next = null, prev = null
//!   linked      prev is never null: the first node's prev is the last node
//! ```
//!
//! One head pointer is enough, because the tail is the head's `prev`. So an empty list is one
//! zero word: it can be made in a `static`, it can be moved, and an array of them is a `memset`.
//!
//! Rules that make it sound:
//!
//! * A node is pinned and alive while linked. A list is neither owner nor borrower of its nodes.
//! * A node is reached through `*const T` and shared references only, never through `&mut`; all
//!   that changes is in `Cell`s. The links hold the pointer that the caller handed in, so what
//!   comes out has the provenance of what went in, for the whole of `T`.
//! * Nothing here is synchronised. A list that threads share lies, with its nodes' links, behind
//!   one lock.

use std::cell::Cell;
use std::fmt;
use std::ptr;

/// A type with [`Links`] in it, which makes it a node of a [`List`] of that type.
///
/// # Safety
///
/// `links` returns a pointer to a field of `*node`, always the same one, that nobody else touches.
pub unsafe trait Node: Sized {
    /// Where the links of `node` are: `&raw const (*node).links`.
    ///
    /// # Safety
    ///
    /// `node` points to a live node.
    unsafe fn links(node: *const Self) -> *const Links<Self>;
}

/// The part of a node that belongs to the list it is in.
pub struct Links<T> {
    next: Cell<*const T>,
    prev: Cell<*const T>,
}

impl<T> Links<T> {
    /// Links of a node that is in no list.
    pub const fn new() -> Links<T> {
        Links { next: Cell::new(ptr::null()), prev: Cell::new(ptr::null()) }
    }

    /// Whether the node is in a list.
    pub fn is_linked(&self) -> bool {
        !self.prev.get().is_null()
    }
}

/// A first-in-first-out queue of nodes that live elsewhere.
pub struct List<T: Node> {
    head: Cell<*const T>,
}

impl<T: Node> List<T> {
    /// An empty list.
    pub const fn new() -> List<T> {
        List { head: Cell::new(ptr::null()) }
    }

    /// Whether no node is linked.
    pub fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// The node that `pop_front` would take, left in its place.
    pub fn front(&self) -> Option<*const T> {
        let head = self.head.get();
        (!head.is_null()).then_some(head)
    }

    /// Whether `predicate` holds for a linked node.
    ///
    /// # Safety
    ///
    /// The linked nodes are as [`List::push_back`] demands.
    pub unsafe fn any(&self, predicate: impl Fn(&T) -> bool) -> bool {
        let mut node = self.head.get();
        // SAFETY: the caller vouches for every node that is linked here.
        while let Some(this) = unsafe { node.as_ref() } {
            if predicate(this) {
                return true;
            }
            // SAFETY: as above.
            node = unsafe { (*T::links(node)).next.get() };
        }
        false
    }

    /// Links `node` at the end.
    ///
    /// # Safety
    ///
    /// `node` points to a live node that is in no list. Until it is taken out again it stays
    /// where it is, alive and without a `&mut` to it, and so do the nodes already linked.
    pub unsafe fn push_back(&self, node: *const T) {
        // SAFETY: the caller vouches for `node` and for every node that is linked here.
        unsafe {
            let links = &*T::links(node);
            debug_assert!(!links.is_linked(), "the node is in a list already");
            let head = self.head.get();
            if head.is_null() {
                self.head.set(node);
                links.prev.set(node);
            } else {
                let tail = (*T::links(head)).prev.replace(node);
                (*T::links(tail)).next.set(node);
                links.prev.set(tail);
            }
        }
    }

    /// Links `node` at the front.
    ///
    /// # Safety
    ///
    /// As for [`List::push_back`].
    pub unsafe fn push_front(&self, node: *const T) {
        let Some(head) = self.front() else {
            // SAFETY: as the caller vouches.
            return unsafe { self.push_back(node) };
        };
        // SAFETY: as the caller vouches; the head is linked.
        unsafe {
            let links = &*T::links(node);
            debug_assert!(!links.is_linked(), "the node is in a list already");
            let tail = (*T::links(head)).prev.replace(node);
            links.next.set(head);
            links.prev.set(tail);
        }
        self.head.set(node);
    }

    /// The node behind `node`, if there is one.
    ///
    /// # Safety
    ///
    /// `node` is linked in this very list, and lives.
    pub unsafe fn after(&self, node: *const T) -> Option<*const T> {
        // SAFETY: the caller says that it lives.
        let next = unsafe { (*T::links(node)).next.get() };
        (!next.is_null()).then_some(next)
    }

    /// Unlinks the first node and returns it.
    ///
    /// # Safety
    ///
    /// The linked nodes are as [`List::push_back`] demands.
    pub unsafe fn pop_front(&self) -> Option<*const T> {
        let head = self.front()?;
        // SAFETY: the head is linked here, and the caller vouches for what is linked.
        unsafe { self.remove(head) };
        Some(head)
    }

    /// Unlinks `node`, wherever in the list it stands.
    ///
    /// # Safety
    ///
    /// `node` is linked in this very list, and the linked nodes are as [`List::push_back`]
    /// demands.
    pub unsafe fn remove(&self, node: *const T) {
        // SAFETY: `node` is linked here, so it and its neighbours are live.
        unsafe {
            let links = &*T::links(node);
            debug_assert!(links.is_linked(), "the node is in no list");
            let next = links.next.replace(ptr::null());
            let prev = links.prev.replace(ptr::null());
            let head = self.head.get();
            if node == head {
                self.head.set(next);
            } else {
                (*T::links(prev)).next.set(next);
            }
            // Whoever comes after the node now follows its predecessor. After the last node
            // that is the head, whose `prev` names the tail; alone in the list, nobody does.
            let follower = if next.is_null() { head } else { next };
            if follower != node {
                (*T::links(follower)).prev.set(prev);
            }
        }
    }
}

impl<T> Default for Links<T> {
    fn default() -> Links<T> {
        Links::new()
    }
}

impl<T: Node> Default for List<T> {
    fn default() -> List<T> {
        List::new()
    }
}

impl<T> Drop for Links<T> {
    fn drop(&mut self) {
        let lost = self.is_linked() && !std::thread::panicking();
        debug_assert!(!lost, "a node was dropped while it was in a list");
    }
}

impl<T: Node> Drop for List<T> {
    fn drop(&mut self) {
        let lost = !self.is_empty() && !std::thread::panicking();
        debug_assert!(!lost, "a list was dropped with nodes in it");
    }
}

impl<T> fmt::Debug for Links<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_linked() { "linked" } else { "unlinked" })
    }
}

impl<T: Node> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "empty list" } else { "list" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    struct Numbered {
        number: usize,
        links: Links<Numbered>,
    }

    // SAFETY: `links` is this one field, and only the list touches it.
    unsafe impl Node for Numbered {
        unsafe fn links(node: *const Numbered) -> *const Links<Numbered> {
            // SAFETY: the caller says that `node` is live.
            unsafe { &raw const (*node).links }
        }
    }

    fn numbered(count: usize) -> Vec<Numbered> {
        (0..count).map(|number| Numbered { number, links: Links::new() }).collect()
    }

    fn pop(list: &List<Numbered>) -> Option<usize> {
        // SAFETY: the tests keep their nodes until the list is empty.
        unsafe { list.pop_front().map(|node| (*node).number) }
    }

    /// The numbers from front to back, the list left as it is.
    fn walk(list: &List<Numbered>) -> VecDeque<usize> {
        let mut next = list.front();
        let mut numbers = VecDeque::new();
        while let Some(node) = next {
            // SAFETY: the tests keep their nodes until the list is empty.
            numbers.push_back(unsafe { (*node).number });
            // SAFETY: as above; it is linked in this list.
            next = unsafe { list.after(node) };
        }
        numbers
    }

    #[test]
    fn nodes_leave_in_the_order_they_came() {
        assert_eq!(size_of::<List<Numbered>>(), size_of::<usize>());
        let nodes = numbered(3);
        let list = const { List::new() };
        assert!(list.is_empty() && list.front().is_none() && pop(&list).is_none());
        for node in &nodes {
            // SAFETY: the nodes outlive the list.
            unsafe { list.push_back(node) };
            assert!(node.links.is_linked());
        }
        assert_eq!(list.front(), Some(&raw const nodes[0]));
        assert_eq!([pop(&list), pop(&list), pop(&list)], [0, 1, 2].map(Some));
        assert!(list.is_empty());
        assert!(nodes.iter().all(|node| !node.links.is_linked()));
    }

    #[test]
    fn every_way_of_removing_from_four_keeps_the_rest_in_order() {
        // Each order of removal of 0..4 as digits; what is removed already is pushed again, at the
        // end if it is even, else at the front.
        for order in (0..256).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6]) {
            let nodes = numbered(4);
            let list = List::new();
            let mut model: VecDeque<usize> = VecDeque::new();
            for node in &nodes {
                // SAFETY: the nodes outlive the list.
                unsafe { list.push_back(node) };
                model.push_back(node.number);
            }
            for number in order {
                let node = &nodes[number];
                if node.links.is_linked() {
                    // SAFETY: it is linked, and there is only this list.
                    unsafe { list.remove(node) };
                    model.retain(|&other| other != number);
                } else if number % 2 == 0 {
                    // SAFETY: it is in no list and outlives this one.
                    unsafe { list.push_back(node) };
                    model.push_back(number);
                } else {
                    // SAFETY: as above.
                    unsafe { list.push_front(node) };
                    model.push_front(number);
                }
                assert_eq!(walk(&list), model, "{order:?}");
                let front = list.front().map(|node| {
                    // SAFETY: the nodes live to the end of the test.
                    unsafe { (*node).number }
                });
                assert_eq!(front, model.front().copied(), "{order:?}");
            }
            let rest: VecDeque<usize> = std::iter::from_fn(|| pop(&list)).collect();
            assert_eq!(rest, model, "{order:?}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "dropped with nodes in it")]
    fn dropping_a_list_with_nodes_in_it_is_a_bug() {
        let node = std::mem::ManuallyDrop::new(numbered(1));
        let list = List::new();
        // SAFETY: the node is never freed.
        unsafe { list.push_back(&raw const node[0]) };
    }
}
