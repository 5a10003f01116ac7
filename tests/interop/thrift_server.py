"""A Thrift server with one method, `list<i64> weigh(1: binary data)`: how often each byte is there.

usage: thrift_server.py ADDRESS PORT
"""

import sys

from thrift.protocol.TBinaryProtocol import TBinaryProtocolFactory
from thrift.Thrift import TApplicationException, TMessageType, TProcessor, TType
from thrift.server.TServer import TThreadedServer
from thrift.transport.TSocket import TServerSocket
from thrift.transport.TTransport import TFramedTransportFactory


class Processor(TProcessor):
    def process(self, input, output):
        name, _, number = input.readMessageBegin()
        data = b""
        input.readStructBegin()
        while True:
            _, kind, field = input.readFieldBegin()
            if kind == TType.STOP:
                break
            data = input.readBinary()
        input.readStructEnd()
        input.readMessageEnd()
        if name != "weigh" or not data:
            output.writeMessageBegin(name, TMessageType.EXCEPTION, number)
            TApplicationException(TApplicationException.UNKNOWN_METHOD, "no data").write(output)
        else:
            output.writeMessageBegin(name, TMessageType.REPLY, number)
            output.writeStructBegin("weigh_result")
            output.writeFieldBegin("success", TType.LIST, 0)
            output.writeListBegin(TType.I64, 256)
            for byte in range(256):
                output.writeI64(data.count(byte))
            output.writeListEnd()
            output.writeFieldEnd()
            output.writeFieldStop()
            output.writeStructEnd()
        output.writeMessageEnd()
        output.trans.flush()


server = TThreadedServer(
    Processor(),
    TServerSocket(host=sys.argv[1], port=int(sys.argv[2])),
    TFramedTransportFactory(),
    TBinaryProtocolFactory(),
    daemon=True,
)
server.serve()
