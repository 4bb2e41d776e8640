import Glibc

/// A variable of the process's environment; nil if it is not set.
func environment(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
}
