import Base

/// Points in time as text, for pages and headers.
public enum Timestamp {
    private static let httpDate: TimeFormat = {
        guard let format = TimeFormat("%a, %d %b %Y %H:%M:%S GMT") else { preconditionFailure("HTTP's date is a valid format") }
        return format
    }()

    /// `2026-11-22T17:57:00.123Z`, from nanoseconds since 1970.
    public static func text(_ time: Int64) -> String {
        render(.standard, time)
    }

    /// `Sun, 22 Nov 2026 17:57:00 GMT` (RFC 9110 section 5.6.7).
    public static func http(_ time: Int64) -> String {
        render(httpDate, time)
    }

    private static func render(_ format: TimeFormat, _ time: Int64) -> String {
        var buffer = ByteBuffer()
        format.render(time, into: &buffer)
        return unsafe String(decoding: buffer.unsafeBytes, as: UTF8.self)
    }
}

/// A format of strftime's kind for times in UTC, compiled so that a worker needs neither libc's time zone lock nor an allocation.
///
/// Specifiers: `%Y %m %d %H %M %S %y %j %e %F %T %D %b %B %a %A %s %z %Z %n %t %%`, and Envoy's fractions of a second: `%f` (nine
/// digits), `%1f` through `%9f`, and `%E3S` for `%S.%3f`.
struct TimeFormat: Sendable {
    private enum Part: Sendable {
        case literal(UInt8)
        case specifier(UInt8)
        case fraction(digits: Int)
    }

    private var parts: [Part] = []

    /// `2026-11-22T17:57:00.123Z`.
    static let standard = TimeFormat(parts: "%Y-%m-%dT%H:%M:%S.%3fZ")

    private init(parts text: StaticString) {
        guard let format = TimeFormat("\(text)") else { preconditionFailure("the standard time format is valid") }
        self = format
    }

    /// Nil for a specifier that is not in the list above.
    init?(_ text: String) {
        var bytes = Array(text.utf8)[...]
        while let byte = bytes.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                parts.append(.literal(byte))
                continue
            }
            guard let specifier = bytes.popFirst() else { return nil }
            switch specifier {
            case UInt8(ascii: "%"): parts.append(.literal(specifier))
            case UInt8(ascii: "n"): parts.append(.literal(0x0a))
            case UInt8(ascii: "t"): parts.append(.literal(0x09))
            case UInt8(ascii: "f"): parts.append(.fraction(digits: 9))
            case UInt8(ascii: "1")...UInt8(ascii: "9"):
                guard bytes.popFirst() == UInt8(ascii: "f") else { return nil }
                parts.append(.fraction(digits: Int(specifier - 0x30)))
            case UInt8(ascii: "E"):
                guard let digits = bytes.popFirst(), (0x31...0x39).contains(digits), bytes.popFirst() == UInt8(ascii: "S") else {
                    return nil
                }
                parts += [.specifier(UInt8(ascii: "S")), .literal(UInt8(ascii: ".")), .fraction(digits: Int(digits - 0x30))]
            default:
                guard "YmdHMSyjeFTDbBaAszZ".utf8.contains(specifier) else { return nil }
                parts.append(.specifier(specifier))
            }
        }
    }

    /// - Parameter time: nanoseconds since 1970.
    func render(_ time: Int64, into buffer: inout ByteBuffer) {
        let civil = CivilTime(time)
        for part in parts {
            switch part {
            case .literal(let byte): buffer.append(byte)
            case .fraction(let digits):
                var value = civil.nanosecond
                for _ in digits..<9 { value /= 10 }
                buffer.append(decimal: value, width: digits)
            case .specifier(let letter): civil.render(letter, into: &buffer)
            }
        }
    }
}

/// A point in time as a calendar and a clock in UTC show it.
struct CivilTime {
    var year: Int
    var month: Int
    var day: Int
    /// 1 through 366.
    var dayOfYear: Int
    /// 0 = Sunday.
    var weekday: Int
    var hour: Int
    var minute: Int
    var second: Int
    var nanosecond: Int
    var unixSeconds: Int

    init(_ time: Int64) {
        func floorDivide(_ value: Int, _ by: Int) -> (Int, Int) {
            let (quotient, remainder) = value.quotientAndRemainder(dividingBy: by)
            return remainder < 0 ? (quotient - 1, remainder + by) : (quotient, remainder)
        }
        (unixSeconds, nanosecond) = floorDivide(Int(time), 1_000_000_000)
        let (days, secondOfDay) = floorDivide(unixSeconds, 86400)
        hour = secondOfDay / 3600
        minute = secondOfDay / 60 % 60
        second = secondOfDay % 60
        weekday = floorDivide(days + 4, 7).1
        // Years that begin in March put the leap day last, and the months' lengths become a straight line (days since 0000-03-01).
        let (era, dayOfEra) = floorDivide(days + 719_468, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfMarchYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfMarchYear + 2) / 153
        day = dayOfMarchYear - (153 * marchMonth + 2) / 5 + 1
        month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        dayOfYear = month <= 2 ? dayOfMarchYear - 305 : dayOfMarchYear + 60 + (isLeap ? 1 : 0)
    }

    func render(_ specifier: UInt8, into buffer: inout ByteBuffer) {
        switch specifier {
        case UInt8(ascii: "Y"): buffer.append(decimal: year)
        case UInt8(ascii: "y"): buffer.append(decimal: year % 100, width: 2)
        case UInt8(ascii: "m"): buffer.append(decimal: month, width: 2)
        case UInt8(ascii: "d"): buffer.append(decimal: day, width: 2)
        case UInt8(ascii: "e"):
            if day < 10 { buffer.append(UInt8(ascii: " ")) }
            buffer.append(decimal: day)
        case UInt8(ascii: "j"): buffer.append(decimal: dayOfYear, width: 3)
        case UInt8(ascii: "H"): buffer.append(decimal: hour, width: 2)
        case UInt8(ascii: "M"): buffer.append(decimal: minute, width: 2)
        case UInt8(ascii: "S"): buffer.append(decimal: second, width: 2)
        case UInt8(ascii: "s"): buffer.append(decimal: unixSeconds)
        case UInt8(ascii: "F"): render("Ymd", separator: UInt8(ascii: "-"), into: &buffer)
        case UInt8(ascii: "T"): render("HMS", separator: UInt8(ascii: ":"), into: &buffer)
        case UInt8(ascii: "D"): render("mdy", separator: UInt8(ascii: "/"), into: &buffer)
        case UInt8(ascii: "z"): buffer.append("+0000")
        case UInt8(ascii: "Z"): buffer.append("UTC")
        case UInt8(ascii: "a"): appendName(Self.weekdays, weekday, into: &buffer)
        case UInt8(ascii: "b"): appendName(Self.months, month - 1, into: &buffer)
        case UInt8(ascii: "A"): buffer.append(Self.longWeekdays[weekday])
        case UInt8(ascii: "B"): buffer.append(Self.longMonths[month - 1])
        default: preconditionFailure("a specifier that TimeFormat does not compile")
        }
    }

    private func render(_ specifiers: StaticString, separator: UInt8, into buffer: inout ByteBuffer) {
        for index in 0..<specifiers.utf8CodeUnitCount {
            if index > 0 { buffer.append(separator) }
            render(unsafe specifiers.utf8Start[index], into: &buffer)
        }
    }

    private func appendName(_ names: StaticString, _ index: Int, into buffer: inout ByteBuffer) {
        for offset in 0..<3 { buffer.append(unsafe names.utf8Start[index * 3 + offset]) }
    }

    private static let weekdays: StaticString = "SunMonTueWedThuFriSat"
    private static let months: StaticString = "JanFebMarAprMayJunJulAugSepOctNovDec"
    private static let longWeekdays: [StaticString] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
    private static let longMonths: [StaticString] = [
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
    ]
}
