import Base
import HTTP

/// The pages of the admin interface. A new one is a case, and the compiler names what is left to write.
enum AdminPage: String, CaseIterable {
    case index = "/"
    case ready = "/ready"
    case clusters = "/clusters"
    case outliers = "/outliers"
    case breakers = "/breakers"
    case forceBreaker = "/breakers/force"
    case releaseBreaker = "/breakers/release"
    case stats = "/stats"
    case metrics = "/metrics"
    case prometheus = "/stats/prometheus"
    case serverInfo = "/server_info"
    case listeners = "/listeners"
    case certs = "/certs"
    case configDump = "/config_dump"
    case logging = "/logging"
    case memory = "/memory"
    case drain = "/drain"
    case drainListeners = "/drain_listeners"
    case quit = "/quitquitquit"
    case help = "/help"

    /// One line for the lists of pages.
    var summary: String {
        switch self {
        case .index: "this list, with links"
        case .ready: "200 LIVE while the proxy serves, else 503 with INITIALIZING or DRAINING"
        case .clusters: "every endpoint: health, weight, connections, requests (?format=json)"
        case .outliers: "who is ejected, for how long and why; the last events (?format=json)"
        case .breakers: "every breaker: state, why, since when, what closes it (?format=json)"
        case .forceBreaker: "?cluster=NAME&state=open|disable|observe: takes a breaker in hand (&endpoint=IP:PORT, &for=10m, at most 24h)"
        case .releaseBreaker: "?cluster=NAME: it decides for itself again (&endpoint=IP:PORT)"
        case .stats: "all counters (?filter=PATTERN, ?usedonly, ?format=json or prometheus)"
        case .metrics: "all metrics for Prometheus (?profile=native,envoy,appmesh)"
        case .prometheus: "the same as /metrics"
        case .serverInfo: "version, state, uptime, node, configuration version"
        case .listeners: "names and addresses of the listeners (?format=json)"
        case .certs: "certificates in use, ours and trusted ones: names, serial, days left, and what was refused"
        case .configDump: "the configuration that runs, as `outrigger render -o json` prints it, and its endpoints"
        case .logging: "GET shows the level of the process log, POST ?level=debug sets it"
        case .memory: "memory of the process (?format=json)"
        case .drain: "takes nothing new, lets what is open end, then ends the process, as SIGTERM does"
        case .drainListeners: "the same as /drain"
        case .quit: "ends the process at once; requests that are open fail"
        case .help: "this list"
        }
    }

    /// What a request may do; everything else is answered 405.
    var methods: [Method] {
        switch self {
        case .drain, .drainListeners, .quit, .forceBreaker, .releaseBreaker: [.post]
        case .logging: [.get, .head, .post]
        default: [.get, .head]
        }
    }

    /// For lists: a page that is only looked at needs no word.
    var methodWords: String { methods.filter { $0 != .head }.map(\.word).joined(separator: ", ") }

    /// Answers a request.
    ///
    /// - Parameter view: called only where a page needs it.
    static func respond(to request: AdminRequest, view: () -> AdminView) -> AdminResponse {
        guard request.namesAnAddress else {
            return AdminResponse(
                status: 403,
                "Host \(quoted(request.authority)) is refused: ask for an IP address or for localhost. A name could lead here by DNS rebinding.\n"
            )
        }
        guard let page = AdminPage(rawValue: request.path) else {
            return AdminResponse(status: 404, "There is no page \(quoted(request.path)). Pages:\n\n" + list)
        }
        guard page.methods.contains(request.method) else {
            var response = AdminResponse(status: 405, "\(page.rawValue) takes \(page.methodWords): curl -X \(page.methods[0].word) ...\n")
            response.allow = page.methods.map(\.word).joined(separator: ", ")
            return response
        }
        if request.method == .post, request.comesFromAForeignPage {
            return AdminResponse(status: 403, "A page of another site sent this; it is refused.\n")
        }
        return page.respond(to: request, view())
    }

    private func respond(to request: AdminRequest, _ view: AdminView) -> AdminResponse {
        switch self {
        case .index: view.index()
        case .ready: view.ready()
        case .clusters: request.isJSON ? view.clustersJSON() : view.clustersText()
        case .outliers: request.isJSON ? view.outliersJSON() : view.outliers()
        case .breakers: request.isJSON ? view.breakersJSON() : view.breakers()
        case .forceBreaker: view.forceBreaker(request)
        case .releaseBreaker: view.releaseBreaker(request)
        case .stats: view.stats(request)
        case .metrics, .prometheus: view.prometheus(request)
        case .serverInfo: view.serverInfo()
        case .certs: view.certs()
        case .listeners: request.isJSON ? view.listenersJSON() : view.listeners()
        case .configDump: view.configDump()
        case .logging: view.logging(request)
        case .memory: request.isJSON ? MemoryReport.now.json() : MemoryReport.now.text()
        case .drain, .drainListeners: view.drain()
        case .quit: view.quit()
        case .help: AdminResponse(Self.list)
        }
    }

    /// All pages, one a line.
    static var list: String {
        var table = TextTable([.left, .left, .left])
        for page in allCases { table.add([page.rawValue, page.methodWords, page.summary]) }
        return table.text
    }

    /// A caller's words, so that they neither end a line nor fill a terminal.
    private static func quoted(_ text: String) -> String {
        let shown = text.unicodeScalars.prefix(100).map { $0.value >= 0x20 && $0.value < 0x7f ? String($0) : "?" }.joined()
        return "\"\(shown)\(text.unicodeScalars.count > 100 ? "..." : "")\""
    }
}

extension AdminRequest {
    fileprivate var isJSON: Bool { self["format"] == "json" }
}

extension Method {
    /// As it stands in a request line. `.other` never gets here: no page takes it.
    fileprivate var word: String { "\(self)".uppercased() }
}
