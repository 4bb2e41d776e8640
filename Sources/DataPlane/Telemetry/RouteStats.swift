public import HTTP
import Synchronization

/// How a request ended, as the metrics count it.
public enum ResponseClass: UInt8, CaseIterable, Sendable {
    /// There was no response: the caller left, or the stream was reset.
    case none
    case informational
    case success
    case redirection
    case clientError
    case serverError

    @inline(__always)
    public init(status: Int) {
        switch status {
        case 100..<200: self = .informational
        case 200..<300: self = .success
        case 300..<400: self = .redirection
        case 400..<500: self = .clientError
        case 500..<600: self = .serverError
        default: self = .none
        }
    }

    /// The value of the label `class`.
    var label: StaticString {
        switch self {
        case .none: "none"
        case .informational: "1xx"
        case .success: "2xx"
        case .redirection: "3xx"
        case .clientError: "4xx"
        case .serverError: "5xx"
        }
    }
}

/// Requests of one route to one target, by class and response flag, with durations.
public final class RouteStats: StatBlock {
    static let classCount = ResponseClass.allCases.count
    /// A column for no flag and one for each flag; 25 leaves room for more.
    static let flagColumns = 25

    /// Requests begun and not yet ended.
    public let active = Gauge()
    let counts = InlineArray<150, Atomic<UInt64>> { _ in Atomic(0) }
    let durations = InlineArray<6, DurationBuckets> { _ in DurationBuckets() }
    /// All classes together, for quantiles.
    let duration = Histogram(.requests)

    public init() {}

    /// Counts one request at its end.
    ///
    /// - Parameters:
    ///   - status: what the caller got; 0 where it got nothing.
    ///   - nanoseconds: from the first byte of the request to the last of the response.
    public func record(status: Int, flags: ResponseFlags, nanoseconds: Int64) {
        let outcome = ResponseClass(status: status)
        let slot = Int(outcome.rawValue) * Self.flagColumns + Self.column(flags)
        counts[slot].store(counts[slot].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
        durations[Int(outcome.rawValue)].record(nanoseconds: nanoseconds)
        duration.record(nanoseconds: nanoseconds)
    }

    /// 0 for no flag, else 1 + the bit of the one flag that stands for the set. URX and RB only say that nothing more was tried, so
    /// the flag of the cause goes before them.
    static func column(_ flags: ResponseFlags) -> Int {
        let causes = flags.subtracting([.retryLimitExceeded, .retryBudgetExhausted])
        let bits = causes.isEmpty ? flags.rawValue : causes.rawValue
        return bits == 0 ? 0 : min(1 + bits.trailingZeroBitCount, flagColumns - 1)
    }

    func count(_ outcome: ResponseClass, column: Int) -> UInt64 {
        counts[Int(outcome.rawValue) * Self.flagColumns + column].load(ordering: .relaxed)
    }

    func visit(_ reader: inout StatReader) {
        reader.gauge("requests_in_flight", "Requests begun and not yet ended.", active)
        reader.outcomes("requests_total", "Requests ended, by class of the response and response flag.", self)
        reader.durations("request_duration_seconds", "Time of requests, by class of the response.", self)
        reader.quantiles("request_time", "Time of requests, in milliseconds.", duration)
    }
}

extension RouteStats {
    /// The labels of a slot of the table of outcomes.
    static func outcome(_ slot: Int) -> (outcome: String, flag: String) {
        let (row, column) = slot.quotientAndRemainder(dividingBy: flagColumns)
        let letters = ResponseFlags.letters
        return ("\(ResponseClass.allCases[row].label)", (1...letters.count).contains(column) ? "\(letters[column - 1].letters)" : "-")
    }
}
