//! What a caller attaches to a connection: who is logged in on it, which statements it has
//! prepared. It travels with the connection through the pool.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use super::super::{Cosocket, Error};

/// Something of a caller's.
type Value = Arc<dyn Any + Send + Sync>;

/// The least recently used first. A handful, so a list.
#[derive(Default)]
pub(crate) struct UserData {
    entries: VecDeque<(Box<str>, Value)>,
    /// 0: any number.
    capacity: usize,
}

impl UserData {
    fn find(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|(name, _)| **name == *key)
    }

    /// What had to give way: the former value of that key, or the entry that was not used for
    /// longest.
    fn put(&mut self, key: &str, value: Value) -> Option<(Box<str>, Value)> {
        let former = self.remove(key);
        let is_full = self.capacity != 0 && self.entries.len() >= self.capacity;
        let removed = former.or_else(|| is_full.then(|| self.entries.pop_front()).flatten());
        self.entries.push_back((key.into(), value));
        removed
    }

    fn use_one(&mut self, key: &str) -> Option<Value> {
        let entry = self.remove(key)?;
        let value = Arc::clone(&entry.1);
        self.entries.push_back(entry);
        Some(value)
    }

    fn remove(&mut self, key: &str) -> Option<(Box<str>, Value)> {
        self.entries.remove(self.find(key)?)
    }

    /// What has no place any more.
    fn set_capacity(&mut self, capacity: usize) -> Vec<(Box<str>, Value)> {
        self.capacity = capacity;
        let surplus = if capacity == 0 { 0 } else { self.entries.len().saturating_sub(capacity) };
        self.entries.drain(..surplus).collect()
    }
}

/// Data that stays with the connection, also while it is in a pool: whoever takes it from there
/// finds it. It ends with the connection.
///
/// Keys are forgotten in the order of their last use once there are more than
/// [`set_user_data_capacity`](Cosocket::set_user_data_capacity) says.
///
/// ```
/// use cosocket::{Cosocket, net::TcpListener};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = cosocket::connect(listener.local_addr()?)?;
/// assert!(socket.user_data::<u32>("prepared")?.is_none());
/// socket.put_user_data("prepared", 17_u32)?;
/// socket.set_keepalive(None, None)?;
///
/// let socket = cosocket::connect(listener.local_addr()?)?;
/// assert_eq!(socket.reused_times()?, 1);
/// assert_eq!(socket.user_data::<u32>("prepared")?.as_deref(), Some(&17));
/// # std::io::Result::Ok(())
/// ```
impl Cosocket {
    /// Attaches a value. Returns what had to give way for it: the former value of that key, or, of
    /// a full store, the key that was not used for longest, with its value.
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn put_user_data<T: Any + Send + Sync>(
        &self,
        key: &str,
        value: T,
    ) -> Result<Option<(String, Value)>, Error> {
        let value: Value = Arc::new(value);
        let removed = self.with_user_data(|data| data.put(key, value))?;
        Ok(removed.map(|(key, value)| (key.into_string(), value)))
    }

    /// The value of a key, if there is one of that type.
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn user_data<T: Any + Send + Sync>(&self, key: &str) -> Result<Option<Arc<T>>, Error> {
        let value = self.with_user_data(|data| data.use_one(key))?;
        Ok(value.and_then(|value| value.downcast().ok()))
    }

    /// Detaches a value, whichever type it has.
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn remove_user_data(&self, key: &str) -> Result<Option<Value>, Error> {
        let removed = self.with_user_data(|data| data.remove(key))?;
        Ok(removed.map(|(_, value)| value))
    }

    /// How many keys this connection may have: 0, the default, is any number. Those that are too
    /// many are forgotten, and their keys returned.
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn set_user_data_capacity(&self, capacity: usize) -> Result<Vec<String>, Error> {
        let removed = self.with_user_data(|data| data.set_capacity(capacity))?;
        Ok(removed.into_iter().map(|(key, _)| key.into_string()).collect())
    }

    /// What `f` takes out is dropped by the caller, who holds no lock.
    fn with_user_data<T>(&self, f: impl FnOnce(&mut UserData) -> T) -> Result<T, Error> {
        self.state.look(|_, details| f(&mut details.member.user_data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: Value) -> u32 {
        *value.downcast().unwrap()
    }

    #[test]
    fn the_least_recently_used_gives_way() {
        let mut data = UserData::default();
        assert!(data.set_capacity(2).is_empty());
        assert!(data.put("a", Arc::new(1_u32)).is_none());
        assert!(data.put("b", Arc::new(2_u32)).is_none());
        assert_eq!(data.use_one("a").map(number), Some(1));
        let (key, value) = data.put("c", Arc::new(3_u32)).unwrap();
        assert_eq!((&*key, number(value)), ("b", 2));
        let (key, value) = data.put("c", Arc::new(4_u32)).unwrap();
        assert_eq!((&*key, number(value)), ("c", 3), "replaced, and nothing else");
        assert!(data.use_one("b").is_none());
        let forgotten = data.set_capacity(1);
        assert_eq!(forgotten.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a".into()]);
    }
}
