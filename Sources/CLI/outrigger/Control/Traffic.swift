import ArgumentParser
import ControlAPI
import Foundation

struct Outliers: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the endpoints that proxies leave alone: why, since when, until when.",
        discussion: """
            EXAMPLES
              outrigger outliers
              outrigger outliers --watch
            """)

    @OptionGroup var control: ControlOptions

    @Flag(name: .shortAndLong, help: "Looks again and again.")
    var watch = false

    @Option(help: ArgumentHelp("Between two looks of --watch (default: 2s).", valueName: "time"), transform: TimeSpan.interval)
    var interval = TimeSpan(seconds: 2)

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func run(_ session: Session) throws {
        func look() throws -> [OutlierItem] { try session.get("/v1/outliers") }
        if output == .json { return try session.printJSON(look()) }
        func page() throws -> String {
            let ejected = Self.page(try look(), session.screen)
            // One of before there were such has none.
            guard let breakers = try? session.get("/v1/breakers", as: [BreakerItem].self), !breakers.isEmpty else { return ejected }
            return ejected + "\n\n" + BreakerList.page(breakers, session.screen)
        }
        guard watch else { return session.screen.print(try page()) }
        try session.watch(every: interval, page)
    }

    static func page(_ items: [OutlierItem], _ screen: Screen) -> String {
        guard !items.isEmpty else { return "no endpoint is ejected" }
        let now = screen.now()
        var table = TextTable(["SERVICE", "ENDPOINT", "REASON", "SINCE>", "RETURNS IN>", "EJECTED BY"])
        for item in items {
            let returns = Times.date(item.until).map { Times.span($0.timeIntervalSince(now)) }
            table.add([
                TextTable.Cell(item.service), TextTable.Cell(item.endpoint, .bad), TextTable.Cell(item.reason),
                "\(Times.age(item.since, now: now))", TextTable.Cell(returns, else: "-"), "\(Self.proxies(item))",
            ])
        }
        return table.text(colored: screen.usesColor)
    }

    /// `2 of 3: a, b`.
    private static func proxies(_ item: OutlierItem) -> String {
        let names = item.ejectedBy.prefix(3).joined(separator: ", ") + (item.ejectedBy.count > 3 ? ", ..." : "")
        return "\(item.ejectedBy.count) of \(item.callers)\(names.isEmpty ? "" : ": \(names)")"
    }
}

struct Top: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the rates, errors and latencies of services, as their callers see them.",
        discussion: """
            Busiest first. Latencies are in milliseconds.

            EXAMPLES
              outrigger top
              outrigger top --watch
              outrigger top --window 5m -o json
            """)

    @OptionGroup var control: ControlOptions

    @Flag(name: .shortAndLong, help: "Looks again and again.")
    var watch = false

    @Option(help: ArgumentHelp("Between two looks of --watch (default: 2s).", valueName: "time"), transform: TimeSpan.interval)
    var interval = TimeSpan(seconds: 2)

    @Option(help: ArgumentHelp("Of the last how long (default: the control plane's).", valueName: "time"))
    var window: TimeSpan?

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func validate() throws {
        if let window, window.seconds < 1 { throw ValidationError("--window: expected 1s or more.") }
    }

    func run(_ session: Session) throws {
        func look() throws -> [ServiceItem] {
            try session.get("/v1/services", ["window": window.map { "\(Int($0.seconds))" }])
        }
        if output == .json { return try session.printJSON(look()) }
        func page() throws -> String { Self.page(try look(), session.screen) }
        guard watch else { return session.screen.print(try page()) }
        try session.watch(every: interval, page)
    }

    static func page(_ items: [ServiceItem], _ screen: Screen) -> String {
        guard !items.isEmpty else { return "no traffic has been reported yet" }
        var table = TextTable(["SERVICE", "REQ/S>", "ERRORS>", "P50 MS>", "P99 MS>", "ACTIVE>", "ENDPOINTS>", "EJECTED>", "CALLERS>"])
        let busiest = items.sorted { ($1.requestsPerSecond, $0.service) < ($0.requestsPerSecond, $1.service) }
        for item in busiest {
            let errors: TextStyle = item.errorPercent >= 5 ? .bad : item.errorPercent > 0 ? .warning : .plain
            table.add([
                TextTable.Cell(item.service), "\(number(item.requestsPerSecond))", TextTable.Cell("\(number(item.errorPercent))%", errors),
                TextTable.Cell(item.p50Milliseconds.map(number), else: "-"), TextTable.Cell(item.p99Milliseconds.map(number), else: "-"),
                "\(item.active)", "\(item.endpoints)", TextTable.Cell("\(item.ejected)", item.ejected > 0 ? .bad : .plain),
                "\(item.callers)",
            ])
            if let open = item.breakersOpen { table.add(note: "its breaker is open at \(open) of \(item.callers) callers", .bad) }
        }
        return table.text(colored: screen.usesColor)
    }

    /// Three digits that count: `0.25`, `12.3`, `1234`.
    static func number(_ value: Double) -> String {
        let digits = value == 0 || abs(value) >= 99.95 ? 0 : abs(value) >= 9.995 ? 1 : 2
        return String(format: "%.\(digits)f", value)
    }
}
