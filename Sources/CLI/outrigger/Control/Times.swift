import ArgumentParser
import Foundation

/// A length of time as people write it: `30s`, `5m`, `1h30m`, `250ms`, `2d`.
struct TimeSpan: ExpressibleByArgument, Hashable {
    var seconds: Double

    init(seconds: Double) { self.seconds = seconds }

    init?(argument: String) {
        var total = 0.0
        var rest = argument[...]
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isASCII && $0.isLetter }
            rest = rest.dropFirst(unit.count)
            let factors: [Substring: Double] = ["ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400]
            guard let number = Double(digits), let factor = factors[unit] else { return nil }
            total += number * factor
        }
        guard total.isFinite else { return nil }
        seconds = total
    }

    /// Between two looks: not so short that looking is all that happens.
    static func interval(_ text: String) throws -> TimeSpan {
        guard let span = TimeSpan(argument: text), 0.2...86400 ~= span.seconds else {
            throw ValidationError("expected a time from 200ms through 1d, found \"\(text)\"")
        }
        return span
    }

    var duration: Duration { .milliseconds(Int64(seconds * 1000)) }
}

enum Times {
    /// RFC 3339, with or without a fraction.
    static func date(_ text: String?) -> Date? {
        guard let text else { return nil }
        return (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
            ?? (try? Date(text, strategy: .iso8601))
    }

    /// `5s`, `3m20s`, `4h`, `12d`: how long ago, as exact as one needs it.
    static func age(_ text: String?, now: Date) -> String {
        date(text).map { span(now.timeIntervalSince($0)) } ?? "-"
    }

    static func span(_ seconds: Double) -> String {
        // Clocks of two machines need not agree.
        let seconds = Int(max(0, min(seconds, 1e12)))
        switch seconds {
        case ..<120: return "\(seconds)s"
        case ..<600: return seconds % 60 == 0 ? "\(seconds / 60)m" : "\(seconds / 60)m\(seconds % 60)s"
        case ..<7200: return "\(seconds / 60)m"
        case ..<36000: return seconds % 3600 < 60 ? "\(seconds / 3600)h" : "\(seconds / 3600)h\(seconds % 3600 / 60)m"
        case ..<172800: return "\(seconds / 3600)h"
        default: return "\(seconds / 86400)d"
        }
    }

    /// `2026-11-23 14:05:09` in UTC, as the API has it, without the fraction.
    static func clock(_ text: String) -> String {
        guard text.count >= 19, text.dropFirst(10).first == "T" else { return text }
        return "\(text.prefix(10)) \(text.dropFirst(11).prefix(8))"
    }
}
