import CLinux

/// The descriptors of this process.
public enum Descriptors {
    /// RLIMIT_NOFILE: every number is below it.
    public static var limit: CInt { clinux_descriptor_limit() }
}

/// Ends the process at once: nothing is flushed, no thread is waited for.
public func endProcessNow(status: CInt) -> Never {
    clinux_exit_now(status)
}
