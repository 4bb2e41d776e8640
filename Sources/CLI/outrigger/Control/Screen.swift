import Foundation
import Glibc

/// Where a command writes, and how it waits. Tests have one of their own.
struct Screen {
    /// To standard output, with a newline.
    var print: (String) -> Void
    /// To standard error, with a newline.
    var note: (String) -> Void
    /// Standard output is read by somebody now.
    var isTerminal = false
    var usesColor = false
    var now: () -> Date
    /// Between two looks. False: look no more.
    var pause: (Duration) -> Bool

    static var standard: Screen {
        let environment = ProcessInfo.processInfo.environment
        let isTerminal = isatty(STDOUT_FILENO) != 0
        // https://no-color.org: there and not empty.
        let isPlain = !(environment["NO_COLOR"] ?? "").isEmpty || environment["TERM"] == "dumb"
        return Screen(
            print: { Console.print($0) }, note: { Console.write($0) }, isTerminal: isTerminal, usesColor: isTerminal && !isPlain,
            now: { Date() },
            pause: { time in
                let (seconds, attoseconds) = time.components
                usleep(UInt32(clamping: seconds * 1_000_000 + attoseconds / 1_000_000_000_000))
                return true
            })
    }

    /// Shows a page in place of the one before: on a terminal at its top, else below.
    func show(_ page: String, isFirst: Bool) {
        if isTerminal {
            // Home, the page with each line's rest erased, then what is left of the page before.
            let lines = page.split(separator: "\n", omittingEmptySubsequences: false).map { "\($0)\u{1b}[K" }.joined(separator: "\n")
            print((isFirst ? "\u{1b}[2J" : "") + "\u{1b}[H\(lines)\u{1b}[J")
        } else {
            print(isFirst ? page : "\n\(page)")
        }
    }

    func styled(_ text: String, _ style: TextStyle) -> String {
        usesColor ? style.wrap(text) : text
    }
}

enum TextStyle {
    case plain
    case good
    case bad
    case warning
    case dim
    case bold

    func wrap(_ text: String) -> String {
        let code: String
        switch self {
        case .plain: return text
        case .good: code = "32"
        case .bad: code = "31"
        case .warning: code = "33"
        case .dim: code = "2"
        case .bold: code = "1"
        }
        return "\u{1b}[\(code)m\(text)\u{1b}[0m"
    }
}

/// Text from elsewhere that goes to a terminal: control characters in it would move the cursor, or worse.
func harmless(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value < 0x20 && $0 != "\n" && $0 != "\t" || 0x7f..<0xa0 ~= $0.value }) else {
        return text
    }
    return String(
        String.UnicodeScalarView(
            text.unicodeScalars.map { $0.value < 0x20 && $0 != "\n" && $0 != "\t" || 0x7f..<0xa0 ~= $0.value ? "\u{fffd}" : $0 }))
}
