//! Load: a schedule of arrivals, sent by a worker process at their intended times, measured from intent.
