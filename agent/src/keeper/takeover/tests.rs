//! Whole take-overs on a made-up server.
