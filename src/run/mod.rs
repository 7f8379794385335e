//! A run: the plan, and the session, which alone sequences the stages.
