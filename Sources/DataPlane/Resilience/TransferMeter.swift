public import Base

/// Tells bodies that move from those that only seem to (attack case T8): a byte a second is worth no more than silence.
///
/// While bytes wait for the other side, time runs, and every `rate` bytes that it takes give back a second. Who falls behind by as much as
/// silence is allowed to last has been silent, in sum.
public struct TransferMeter: Hashable, Sendable {
    private var subject = Instant.never
    private var moved: UInt64 = 0
    private var lag = Nanoseconds.zero

    public init() {}

    /// Takes in a look at a body.
    ///
    /// - Parameters:
    ///   - subject: when its stream began; another one begins from nothing.
    ///   - moved: bytes of it that the other side has given or taken so far.
    ///   - isWaiting: it could go on, if the other side did.
    ///   - elapsed: since the last look.
    ///   - rate: bytes a second.
    /// - Returns: whether it lags by `patience` or more.
    public mutating func lags(
        _ subject: Instant, moved: UInt64, isWaiting: Bool, elapsed: Nanoseconds, rate: Int, patience: Nanoseconds
    ) -> Bool {
        guard subject == self.subject else {
            self = TransferMeter()
            self.subject = subject
            self.moved = moved
            return false
        }
        let bytes = Int64(clamping: moved &- min(self.moved, moved))
        self.moved = moved
        guard rate > 0 else { return false }
        let credit = bytes.multipliedReportingOverflow(by: 1_000_000_000 / Int64(rate))
        if isWaiting { lag.count += elapsed.count }
        lag.count -= credit.overflow ? lag.count : min(lag.count, credit.partialValue)
        return isWaiting && lag >= patience
    }
}
