import Glibc
import ProxyConfig
import Resilience

/// What the supervisor wants of a worker because of overload. Repeated while it lasts.
struct OverloadOrder: Hashable, Sendable {
    /// Of descriptors or memory, whichever is worse.
    var level = OverloadLevel.normal
    /// Of memory: a worker cannot see that itself.
    var memoryLevel = OverloadLevel.normal
    /// A new connection whose descriptor has this number or a higher one needs another to close.
    var descriptorLine = CInt.max
    /// One of this number or a higher one belongs to the admin interface, DNS, logs and the control plane.
    var descriptorEnd = CInt.max
    /// Idle connections that this worker is to close.
    var descriptorsToFree = 0
    /// Buffered bytes that this worker is to let go, by resetting the streams that hold the most.
    var bytesToReset = 0
    /// Bytes a second that a body has to move to count as moving.
    var minBodyRate = OverloadSettings.defaultMinBodyRate
}
