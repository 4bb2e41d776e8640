import EventStore
import Foundation
import Telemetry

/// The daemon's own log, in the form of the proxy's.
enum Log {
    static func info(_ area: StaticString, _ message: String) { ProcessLog.standard.info(area, message) }
    static func warning(_ area: StaticString, _ message: String) { ProcessLog.standard.warning(area, message) }
    static func error(_ area: StaticString, _ message: String) { ProcessLog.standard.error(area, message) }
}

extension UnixTime {
    static var now: UnixTime { UnixTime(milliseconds: Int64(Date().timeIntervalSince1970 * 1000)) }

    /// RFC 3339, UTC, with milliseconds.
    var text: String {
        let seconds = milliseconds.quotientAndRemainder(dividingBy: 1000)
        let date = Date(timeIntervalSince1970: Double(seconds.quotient))
        let fraction = String(1000 + abs(seconds.remainder)).dropFirst()
        return date.formatted(.iso8601.dateTimeSeparator(.standard)).dropLast() + ".\(fraction)Z"
    }

    /// RFC 3339 with or without a fraction; nil: neither.
    init?(text: String) {
        let styles: [Date.ISO8601FormatStyle] = [.iso8601, Date.ISO8601FormatStyle(includingFractionalSeconds: true)]
        for style in styles {
            if let date = try? style.parse(text) {
                self.init(milliseconds: Int64((date.timeIntervalSince1970 * 1000).rounded()))
                return
            }
        }
        return nil
    }

    func advanced(bySeconds seconds: Double) -> UnixTime { UnixTime(milliseconds: milliseconds + Int64(seconds * 1000)) }
}
