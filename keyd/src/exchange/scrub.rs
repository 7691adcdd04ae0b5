//! Keys that come back are overwritten with `*`, same length, before gatewayd sees a byte.
//!
//! [`patterns`] says which keys are looked for, [`stream`] walks a body of any size in one pass, [`head`] does reason
//! phrase, header fields and trailers. Framing never changes. It refuses to let anything that is visible from outside,
//! length or timing, depend on a key: what is held back across chunks is decided by character classes alone.

pub mod head;
pub mod patterns;
pub mod stream;
