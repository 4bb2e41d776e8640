import ArgumentParser
import ControlAPI
import Foundation

struct BreakerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "breaker", abstract: "Shows breakers, and takes them in hand for a while.",
        discussion: """
            Through the control plane for all proxies of a node, recorded in its events and kept across restarts; or with --admin for one \
            proxy, by its admin interface. Whatever is forced ends by itself, after 10 minutes unless --for says otherwise.

            EXAMPLES
              outrigger breaker list shop/front
              outrigger breaker force shop/front shop/cart --open --for 5m --reason "cart is being repaired"
              outrigger breaker force shop/front shop/cart/10.0.0.7:8080 --open
              outrigger breaker release shop/front shop/cart
              outrigger breaker list --admin 127.0.0.1:9901
            """,
        subcommands: [BreakerList.self, BreakerForce.self, BreakerRelease.self])
}

/// `--admin`, in place of a control plane.
struct AdminOption: ParsableArguments {
    @Option(help: ArgumentHelp("The admin interface of one proxy, in place of the control plane.", valueName: "ip:port"))
    var admin: String?
}

/// `CLUSTER` or `CLUSTER/IP:PORT`. A service has a slash of its own: `shop/cart`, `shop/cart/10.0.0.1:80`.
struct BreakerTarget: Equatable {
    var cluster: String
    var endpoint: String?

    init(_ text: String) {
        cluster = text
        if let slash = text.lastIndex(of: "/"), text[slash...].contains(":") {
            cluster = String(text[..<slash])
            endpoint = String(text[text.index(after: slash)...])
        }
    }

    /// For the query of the admin interface.
    var query: KeyValuePairs<String, String?> { ["cluster": cluster, "endpoint": endpoint] }
}

struct BreakerList: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Shows breakers: state, why, since when, what closes them.",
        discussion: "Without a node: those of all proxies that are not simply closed.")

    @Argument(help: ArgumentHelp("NAME, NAME.NAMESPACE or NAMESPACE/NAME: all breakers of its proxies.", valueName: "node"))
    var node: String?

    @OptionGroup var admin: AdminOption
    @OptionGroup var control: ControlOptions

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func validate() throws {
        if admin.admin != nil, node != nil { throw ValidationError("--admin names one proxy: there is no node to choose.") }
    }

    func run() throws {
        guard let address = admin.admin else { return try run(control.session()) }
        let page = try AdminCall(address).get(ControlPath("/breakers", ["format": output == .json ? "json" : nil]).description)
        Console.print(page)
    }

    func run(_ session: Session) throws {
        let items = try session.get("/v1/breakers", ["node": node], as: [BreakerItem].self)
        if output == .json { return try session.printJSON(items) }
        session.screen.print(Self.page(items, session.screen))
    }

    static func page(_ items: [BreakerItem], _ screen: Screen) -> String {
        guard !items.isEmpty else { return "every breaker is closed" }
        let now = screen.now()
        var table = TextTable(["NODE", "INSTANCE", "BREAKER OF", "STATE", "REASON", "SINCE>", "UNTIL IN>", "CLOSES"])
        for item in items {
            let until = Times.date(item.until).map { Times.span($0.timeIntervalSince(now)) }
            table.add([
                TextTable.Cell(item.node), TextTable.Cell(item.instance, else: "-"),
                TextTable.Cell("\(item.service)\(item.endpoint.map { "/\($0)" } ?? "")"), TextTable.Cell(item.state, style(item.state)),
                TextTable.Cell(item.reason, else: "-"), TextTable.Cell(item.since.map { Times.age($0, now: now) }, else: "-"),
                TextTable.Cell(until, else: "-"), TextTable.Cell(item.closes, else: "-"),
            ])
            if let forced = item.forced {
                let why = forced.reason.map { ": \($0)" } ?? ""
                table.add(note: "\(forced.action), by \(forced.by) until \(Times.clock(forced.until)) UTC\(why)", .warning)
            }
        }
        return table.text(colored: screen.usesColor)
    }

    static func style(_ state: String) -> TextStyle {
        switch state {
        case "closed": .good
        case "open", "forced-open": .bad
        default: .warning
        }
    }
}

struct BreakerForce: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "force", abstract: "Opens, disables or only observes breakers, for a while.")

    @Argument(
        help: ArgumentHelp(
            "NODE CLUSTER[/ENDPOINT]; with --admin only the second. A cluster may be named by its service.", valueName: "what"))
    var words: [String]

    @Flag(help: "Nothing passes: 503 at a service, other endpoints at an endpoint.")
    var open = false

    @Flag(help: "Everything passes, nothing counts.")
    var disable = false

    @Flag(help: "Everything passes, what would open it is told.")
    var observe = false

    @Option(name: .customLong("for"), help: ArgumentHelp("How long, at most 24h (default: 10m).", valueName: "time"))
    var time = TimeSpan(seconds: 600)

    @Option(help: ArgumentHelp("Why, for the record.", valueName: "text"))
    var reason: String?

    @OptionGroup var admin: AdminOption
    @OptionGroup var control: ControlOptions

    private var action: String { open ? "open" : disable ? "disable" : "observe" }

    func validate() throws {
        guard [open, disable, observe].count(where: \.self) == 1 else { throw ValidationError("Say one of --open, --disable, --observe.") }
        guard 1...86_400 ~= time.seconds else { throw ValidationError("--for: expected 1s through 24h.") }
        try BreakerWords.check(words, admin)
    }

    func run() throws {
        guard let address = admin.admin else { return try run(control.session()) }
        let target = BreakerTarget(words[0])
        let path = ControlPath(
            "/breakers/force",
            ["cluster": target.cluster, "endpoint": target.endpoint, "state": action, "for": "\(Int(time.seconds.rounded(.up)))s"])
        Console.print(try AdminCall(address).post(path.description))
    }

    func run(_ session: Session) throws {
        let target = BreakerTarget(words[1])
        let request = BreakerForceRequest(
            node: words[0], cluster: target.cluster, endpoint: target.endpoint, action: action, seconds: time.seconds, reason: reason)
        let change = try session.post("/v1/breakers/force", request, as: BreakerChange.self)
        for cluster in change.clusters {
            let place = harmless("\(cluster)\(change.endpoint.map { "/\($0)" } ?? "")")
            session.screen.print("\(change.node): \(place) \(action) until \(change.until.map(Times.clock) ?? "-") UTC")
        }
    }
}

struct BreakerRelease: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "release", abstract: "Lets breakers decide for themselves again.")

    @Argument(help: ArgumentHelp("NODE CLUSTER[/ENDPOINT]; with --admin only the second.", valueName: "what"))
    var words: [String]

    @Option(help: ArgumentHelp("Why, for the record.", valueName: "text"))
    var reason: String?

    @OptionGroup var admin: AdminOption
    @OptionGroup var control: ControlOptions

    func validate() throws {
        try BreakerWords.check(words, admin)
    }

    func run() throws {
        guard let address = admin.admin else { return try run(control.session()) }
        let target = BreakerTarget(words[0])
        Console.print(try AdminCall(address).post(ControlPath("/breakers/release", target.query).description))
    }

    func run(_ session: Session) throws {
        let target = BreakerTarget(words[1])
        let request = BreakerReleaseRequest(node: words[0], cluster: target.cluster, endpoint: target.endpoint, reason: reason)
        let change = try session.post("/v1/breakers/release", request, as: BreakerChange.self)
        for cluster in change.clusters {
            session.screen.print("\(change.node): \(harmless("\(cluster)\(change.endpoint.map { "/\($0)" } ?? "")")) released")
        }
    }
}

private enum BreakerWords {
    static func check(_ words: [String], _ admin: AdminOption) throws {
        guard words.count == (admin.admin == nil ? 2 : 1) else {
            throw ValidationError(admin.admin == nil ? "Say NODE CLUSTER[/ENDPOINT]." : "With --admin say CLUSTER[/ENDPOINT].")
        }
    }
}
