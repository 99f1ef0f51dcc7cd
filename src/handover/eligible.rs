//! stub
use super::memory::Memory;
use crate::value::Value;
pub fn may_overlap(_old: &[&Value], _new: &[&Value]) -> Result<(), String> {
    Ok(())
}
pub fn fits(_memory: Option<Memory>) -> Result<(), String> {
    Ok(())
}
