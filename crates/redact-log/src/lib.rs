//! Request ids, access log and log files with secrets filtered out.
