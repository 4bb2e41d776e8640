public import HTTP
public import ProxyConfig

/// Conditions on a head, apart from any route. None: it holds.
public struct HeaderConditions: Sendable {
    private let table: RouteTable?

    /// - Throws: a matcher that is none, by its path within `headers`.
    public init(_ matchers: [HeaderMatcher]) throws(RouteTableErrors) {
        guard !matchers.isEmpty else {
            table = nil
            return
        }
        let route = Route(name: "", match: RouteMatch(path: .prefix("/"), headers: matchers), action: .reply(DirectReply(status: 200)))
        table = try RouteTable(
            RouteConfiguration(name: "conditions", virtualHosts: [VirtualHost(name: "", domains: ["*"], routes: [route])]))
    }

    /// - Parameter head: with its target in its normal form.
    public func hold(_ head: Head) -> Bool {
        guard let table else { return true }
        if case .reply = table.match(head, random: 0) { return true }
        return false
    }
}
