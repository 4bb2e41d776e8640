import HTTP
import ProxyConfig

/// A request head as a codec would fill it.
func request(
    _ target: String, host: String = "a.example", method: String = "GET", scheme: Head.Scheme = .http, _ fields: [(String, String)] = []
) -> Head {
    let head = Head()
    func append(_ text: String) -> Range<Int> {
        head.bytes += Array(text.utf8)
        return head.bytes.count - text.utf8.count..<head.bytes.count
    }
    head.methodRange = append(method)
    head.method = Method(Array(method.utf8).span)
    head.target = append(target)
    _ = append(" HTTP/1.1\r\n")
    head.scheme = scheme
    for (name, value) in [("Host", host)] + fields {
        let nameRange = append(name)
        _ = append(": ")
        let valueRange = append(value)
        _ = append("\r\n")
        head.fields.append(Head.Field(name: nameRange, value: valueRange, known: KnownField(Array(name.utf8).span)))
    }
    head.authority = head.fields[0].value
    return head
}

func route(_ name: String, _ match: RouteMatch, to cluster: String = "c") -> Route {
    Route(name: name, match: match, action: .forward(ForwardAction(target: .cluster(cluster))))
}

func configuration(_ hosts: [VirtualHost]) -> RouteConfiguration {
    RouteConfiguration(name: "rds", virtualHosts: hosts)
}

func configuration(_ routes: [Route]) -> RouteConfiguration {
    configuration([VirtualHost(name: "all", domains: ["*"], routes: routes)])
}
