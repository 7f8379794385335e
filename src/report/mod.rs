//! Reports: one model of a judged run, rendered as HTML, JSON, JUnit, Markdown and for the console. Pure.
