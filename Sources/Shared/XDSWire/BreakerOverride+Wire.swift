import Base
import ProxyConfig

extension BreakerOverride: WireMessage {
    /// A message of our own, outrigger.v1.BreakerOverride.
    enum Fields: Int, WireField {
        case cluster = 1
        /// Absent: the service as a whole.
        case endpoint = 2
        case action = 3
        case until_ms = 4
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.cluster, target.cluster)
        if let endpoint = target.endpoint { message.string(.endpoint, "\(endpoint)") }
        message.string(.action, action.rawValue)
        message.number(.until_ms, until)
    }

    static func read(_ message: MessageReader<Fields>) -> BreakerOverride? {
        let (cluster, text, word) = (message.requiredString(.cluster), message.string(.endpoint), message.string(.action))
        let endpoint = SocketAddress(text)
        if !text.isEmpty, endpoint == nil { message.fail(.endpoint, expected: "an IP address and port", found: "\"\(text)\"") }
        let action = Action(rawValue: word)
        if action == nil { message.fail(.action, expected: "open, disable or observe", found: "\"\(word)\"") }
        guard let action, text.isEmpty || endpoint != nil else { return nil }
        return BreakerOverride(Target(cluster: cluster, endpoint: endpoint), action, until: message.signed(.until_ms))
    }
}
