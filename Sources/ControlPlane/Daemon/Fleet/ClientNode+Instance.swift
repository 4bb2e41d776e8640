import MeshCompiler
import Projections
import XDSWire

extension ClientNode {
    /// Proxies of one node without an instance of their own would be taken for one: foreign clients go by their id.
    func instanceKey(of subject: MeshCompiler.Subject) -> InstanceKey {
        InstanceKey(node: subject.objectKey, instance: instance.isEmpty ? (program == .outrigger ? "-" : id) : instance)
    }
}
